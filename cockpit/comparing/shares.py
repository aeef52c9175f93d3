"""Of what is so or not, as whether a gradient was clipped: whether one run comes to be so more often, and since when.

Single readings of it have no level, but shares of a few in a row do, and so have shares that are logged. Those of both
runs' last third are compared by Student's t: they are as many batch means, whose scatter tells that of the share
although readings depend on their neighbours (Flegal and Jones, *Batch means and spectral variance estimators in Markov
chain Monte Carlo*, Annals of Statistics 38, 2010). The step is where the readings' means before and after it differ
most (Page, *Continuous inspection schemes*, Biometrika 41, 1954).
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

MOVES = 5  # from one value to the other, without which nothing goes to and fro
BATCHES = 8  # of the last third of a run
THERE = 0.5  # of the later difference, that has been there from the start


def flickers(a: Floats, b: Floats) -> bool:
    """Whether all readings are one of two values and go to and fro, as what is so now and then."""
    moves = max(int(np.count_nonzero(np.diff(each))) for each in (a, b))
    return len(np.unique(np.concatenate([a, b]))) == 2 and moves >= MOVES


def flags(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """1 for readings that are the larger one of their two values, 0 for the others."""
    low = min(a.min(), b.min())
    return (a > low).astype(np.float64), (b > low).astype(np.float64)


def are_shares(a: Floats, b: Floats) -> bool:
    """Whether all readings lie between 0 and 1."""
    return bool(min(a.min(), b.min()) >= 0 and max(a.max(), b.max()) <= 1)


def chance_of_shares(a: Floats, b: Floats) -> float:
    """How likely the shares of the last third are as far apart by chance.

    However little they scatter there, a reading is not taken for more than a single case.

    Args:
        a: One run's, from 0 to 1. Shape ``[n]``, at least :data:`BATCHES`.
        b: The other's.
    """
    length = max(1, len(a) // (3 * BATCHES))
    ends = np.stack([a, b])[:, -length * BATCHES :].reshape(2, BATCHES, length).mean(2)
    count = BATCHES * length
    smoothed = (ends.mean(1) * count + 0.5) / (count + 1)
    least = smoothed * (1 - smoothed) / count
    variance = float(np.maximum(ends.var(1, ddof=1) / BATCHES, least).sum())
    t, freedom = abs(float(ends[0].mean() - ends[1].mean())) / math.sqrt(variance), BATCHES - 1
    # Student's t as a normal deviate: Wallace, Bounds on normal approximations to Student's distribution, 1959
    normal = math.sqrt(freedom * math.log1p(t**2 / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    return math.erfc(normal / math.sqrt(2))


def since(a: Floats, b: Floats) -> tuple[int, float]:
    """From which reading on one is so more often, and by what share."""
    differences = a - b
    n = len(differences)
    before = np.arange(1, n)
    sums = np.cumsum(differences)
    gain = (sums[:-1] - sums[-1] * before / n) ** 2 / (before * (n - before))
    at = int(gain.argmax()) + 1
    earlier, later = float(differences[:at].mean()), float(differences[at:].mean())
    if earlier * later > 0 and abs(earlier) >= THERE * abs(later):
        return 0, abs(float(differences.mean()))
    return at, abs(later)
