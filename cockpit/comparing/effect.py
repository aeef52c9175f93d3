r"""Differences that leave no doubt: runs that are far apart at their end, that fork, or of which one does not move.

:mod:`cockpit.comparing.chance` asks whether a process without a change could take two runs as far apart, and a process
that wanders can take them anywhere. But what the runs do *within* their last third tells how much they wander: who has
settled and is many times that away from the other is apart.

The noise there is told without the difference itself, by each run about its own mean. Half the mean square of its
successive differences is its *scatter*, which a mean of many readings averages away; by what its variance is larger, it
*wanders*, which none does (von Neumann, *Distribution of the ratio of the mean square successive difference to the
variance*, Annals of Mathematical Statistics 12, 1941). A random walk has come far before its last third began, so runs
that wander have to be further apart than those that scatter. How far, was found by simulation:
:file:`tests/comparing/test_chance.py` tries fifteen kinds of noise.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

SETTLED = 3  # one of so many parts of a run, the last, tells what it has come to
SHORTEST = 8  # readings of it
EDGE = 5  # readings at both ends that no leap is looked for in
FAR = ((0.05, 26.0), (0.15, 20.0), (0.4, 13.0), (0.8, 8.0))  # share of scatter, and distance of one of fifty by chance
AVERAGED = 0.5  # of its variance, over the root of the readings' number: a mean's, and what wander it hides
LONG = 20  # readings of a last third, from which on noise hides a walk that has come ever further
SURE = 1000.0  # times that distance, from which on nothing becomes less likely
FALLS = 3.0  # power of the distance by which that becomes less likely
COPIES = 3  # different readings that two runs have in common only if one is the other's copy up to there
FORKED = 0.9  # of the readings after a fork differ


def far(u: Floats, v: Floats) -> float:
    """About how likely chance takes two runs as far apart as they are in their last third.

    Args:
        u: One run's readings, on a scale on which their noise is even. Shape ``[n]``.
        v: The other's.
    """
    length = min(len(u), max(SHORTEST, len(u) // SETTLED))
    ends = np.stack([u[-length:], v[-length:]])
    variance = ends.var(axis=1, ddof=1)
    scatter = np.minimum((np.diff(ends, axis=1) ** 2).mean(axis=1) / 2, variance)
    total, scattered = float(variance.sum()), float(scatter.sum())
    level = abs(float(np.median(ends[0] - ends[1])))
    wander = max(0.0, total - scattered * (1 + 1 / math.sqrt(length)))  # beyond what scatter itself looks like
    noise = math.sqrt(wander + scattered * AVERAGED / math.sqrt(length))
    if noise == 0 or level == 0:
        return 1.0
    shares, distances = zip(*FAR, strict=True)
    share, longer = scattered / total, max(1.0, length / LONG)
    hidden = longer ** float(np.interp(share, (0.1, 0.3), (0, 1 / 3)))
    usual = hidden * float(np.interp(share * longer, shares, distances))  # a walk's share falls with its length
    times = min(level / noise / usual, SURE)
    return 0.02 * times**-FALLS if times > 0.02 ** (1 / FALLS) else 1.0


def leap(differences: Floats) -> tuple[float, int | None]:
    """About how likely a difference leaps as it does by chance, and to which reading; 1 and ``None`` where it does not.

    A leap is a step larger than all others which is not undone. Of steps with tails that fall by the fourth power, the
    largest is so many times the second largest as rarely as that.

    Args:
        differences: Shape ``[n]``.
    """
    steps = np.abs(np.diff(differences))[EDGE:-EDGE]
    if len(steps) <= SHORTEST:
        return 1.0, None
    at, second = int(steps.argmax()) + EDGE + 1, float(np.partition(steps, -2)[-2])
    near = max(EDGE, len(differences) // SHORTEST)
    before, after = differences[:at], differences[at:]
    risen = [abs(float(np.median(later) - np.median(earlier)))
             for earlier, later in ((before, after), (before[-near:], after[:near]))]  # fmt: skip
    if second == 0 or min(risen) <= steps.max() / 2:
        return 1.0, None
    return (second / float(steps.max())) ** 4, at


def stands(values: Floats, resolution: float) -> int:
    """From which reading on a run does not move any more, as what is frozen; the last one's index where it does."""
    others = np.flatnonzero(np.abs(values - values[-1]) > resolution)
    return int(others[-1]) + 1 if len(others) else 0


def fork(u: Floats, v: Floats, differences: Floats) -> int | None:
    """From which reading on a run is no longer the other's copy; ``None`` where it never was, or is to the end.

    Args:
        u: One run's readings, of the same steps. Shape ``[n]``.
        v: The other's.
        differences: Between them, zero where they are rounding.
    """
    apart = np.flatnonzero(differences)
    if not len(apart):
        return None
    at = int(apart[0])
    copied = min(len(np.unique(u[:at])), len(np.unique(v[:at])))
    return at if copied >= COPIES and len(apart) >= FORKED * (len(u) - at) else None


def departure(differences: Floats, patience: int) -> int | None:
    """From which reading on all differences have one sign; ``None`` where that are fewer than ``patience``."""
    other = np.flatnonzero(np.sign(differences) != np.sign(differences[-1]))
    at = int(other[-1]) + 1 if len(other) else 0
    return at if differences[-1] != 0 and len(differences) - at >= patience else None
