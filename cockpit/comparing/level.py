"""From where on the level of a difference stays beyond noise.

The level is a running median. It is held against two sorts of noise that the runs themselves show:

- *scatter*: how far each run's own level strays from the straight line through its neighbours. Second differences of
  levels one window apart measure it, which no trend of the training disturbs (pseudo-residuals: Gasser, Sroka and
  Jennen-Steinmetz, *Residual variance and residual pattern in nonlinear regression*, Biometrika 73, 1986). As the
  levels are those of windows and not single readings, readings that depend on their neighbours are accounted for
  (batch means: Flegal and Jones, *Batch means and spectral variance estimators in Markov chain Monte Carlo*, Annals of
  Statistics 38, 2010).
- *wander*: the same of the difference, over windows of up to a twelfth of the run. Two trainings that differ only in
  their seed drift apart and together again.

The step is found by a cumulative sum (Page, *Continuous inspection schemes*, Biometrika 41, 1954) that runs from the
end backwards: it rises where the level is beyond :data:`BEYOND` times the noise and falls where it is not. It stops
once it has lost a window's worth of what it had gained: there the runs were together. Where it was highest they parted
for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

BEYOND = 3.0  # times the noise that levels must be apart
MOST = 1000  # stretches that the readings are summed up in
WINDOWS = 12  # of a run at least; more would leave a window too few readings
LONGEST_WINDOW = 25  # readings
PATIENCE = 5  # readings apart at least, and together at least
KEPT = 0.7  # share of deviations that noise is taken from, the smallest: the others may be the divergence
ENOUGH = 2.0  # times BEYOND: what is further apart counts no more than this


@dataclass(frozen=True)
class Parting:
    """From which reading on two series are apart, where they come to be: at ``start`` by their levels, at ``index`` by
    the first reading there that is.
    """

    start: int
    index: int
    noises: float


def located(u: Floats, v: Floats, resolution: float) -> Parting | None:
    """Where the level of the difference departs for good.

    Args:
        u: One run's readings, on a scale on which their noise is even. Shape ``[n]``.
        v: The other's.
        resolution: The smallest difference that is one.
    """
    stretch = -(-len(u) // MOST)
    short = [summed_up(values, stretch) for values in (u, v, u - v)]
    n = len(short[0])
    window = _window(n)
    levels = [_level(values, window) for values in short]
    noise = max(_noise(levels, window), resolution)
    far = np.abs(levels[2]) / noise if noise else np.where(levels[2] == 0, 0.0, np.inf)
    start = _last_rise(np.minimum(far / BEYOND, ENOUGH) - 1, max(window, PATIENCE))
    if start is None:
        return None
    begin, half = start * stretch, window // 2
    level = abs(float(levels[2][min(start + half, n - 1)]))
    gone = np.abs((u - v)[begin : begin + half * stretch + 1]) > level / 2  # a median sees half a window ahead
    return Parting(start, begin + int(np.argmax(gone)), float(np.median(far[start:])))


def summed_up(values: Floats, stretch: int) -> Floats:
    """Medians of as many readings each; the last stretch may be shorter."""
    if stretch == 1:
        return values
    full = len(values) // stretch * stretch
    medians = np.median(values[:full].reshape(-1, stretch), axis=1)
    return np.append(medians, np.median(values[full:])) if full < len(values) else medians


def _window(n: int) -> int:
    """Readings of which a level is the median: an odd number."""
    return max(1, min(LONGEST_WINDOW, (n // WINDOWS - 1) | 1))


def _level(values: Floats, window: int) -> Floats:
    """Running median about each reading; at both ends of those that there are. Shape ``[n]``."""
    half = window // 2
    inner = np.median(np.lib.stride_tricks.sliding_window_view(values, window), axis=1)
    first = [np.median(values[: half + 1 + at]) for at in range(half)]
    last = [np.median(values[at - half :]) for at in range(len(values) - half, len(values))]
    return np.concatenate([first, inner, last])


def _noise(levels: list[Floats], window: int) -> float:
    """Scatter of both runs' levels, or the wander of their difference where that is larger."""
    scatter = float(np.hypot(spread(levels[0], window), spread(levels[1], window)))
    lags = [window << doubled for doubled in range(16) if window << doubled <= len(levels[2]) // WINDOWS]
    wander = [spread(_means(levels[2], lag // window), lag) for lag in lags]
    return max([scatter, *wander])


def _means(values: Floats, width: int) -> Floats:
    """Running means of ``width`` values. Shape ``[n - width + 1]``."""
    if width == 1:
        return values
    means: Floats = np.lib.stride_tricks.sliding_window_view(values, width).mean(axis=1)
    return means


def spread(levels: Floats, lag: int) -> float:
    """Standard deviation of levels about the line through those one lag before and after.

    Args:
        levels: Shape ``[n]``.
        lag: Distance at which levels share no reading.
    """
    if len(levels) <= 2 * lag:
        return 0.0
    deviations = np.sort(np.abs(2 * levels[lag:-lag] - levels[: -2 * lag] - levels[2 * lag :])) / np.sqrt(6)
    normal = NormalDist()
    mean = 2 * (normal.pdf(0) - normal.pdf(normal.inv_cdf((1 + KEPT) / 2))) / KEPT  # of a normal one so cut off
    return float(np.mean(deviations[: max(1, int(np.ceil(KEPT * len(deviations))))])) / mean


def _last_rise(gains: Floats, patience: int) -> int | None:
    """From where on the gains add up to the most before, going backwards, ``patience`` of it are lost again.

    ``None`` where they never add up to ``patience``.
    """
    sums = np.cumsum(gains[::-1])
    peaks = np.maximum.accumulate(np.maximum(sums, 0))
    lost = np.flatnonzero(peaks - sums > patience)
    reach = int(lost[0]) if len(lost) else len(sums)
    if reach == 0:
        return None
    best = int(np.argmax(sums[:reach]))
    return len(gains) - 1 - best if sums[best] >= patience else None
