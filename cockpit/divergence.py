"""From which step on two runs stay apart beyond noise, for one quantity.

Both runs' readings are paired by step; what is tested is the level of their difference, a running median, against two
sorts of noise that the runs themselves show:

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

Nothing depends on the unit of a quantity, on which run comes first, or on the length of a step.
:file:`docs/dashboard.md` says how often pairs of runs that differ only in their seed are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

BEYOND = 3.0  # times the noise that levels must be apart
FEWEST = 8  # shared readings below which nothing is told
MOST = 1000  # stretches that the readings are summed up in
WINDOWS = 12  # of a run at least; more would leave a window too few readings
LONGEST_WINDOW = 25  # readings
PATIENCE = 5  # readings apart at least, and together at least
KEPT = 0.7  # share of deviations that noise is taken from, the smallest: the others may be the divergence
ENOUGH = 2.0  # times BEYOND: what is further apart counts no more than this
RESOLUTION = 2.0**-23  # of float32, in which trainings compute: smaller differences are none


@dataclass(frozen=True)
class Points:
    """Readings of one quantity in one run; those that are missing are left out.

    Args:
        steps: Increasing. Shape ``[n]``.
        values: NaN and infinities are readings as well. Shape ``[n]``.
    """

    steps: NDArray[np.int64]
    values: Floats


@dataclass(frozen=True)
class Verdict:
    """What is known of one quantity in two runs.

    Args:
        step: The first reading of those from which on they stay apart; ``None`` where they do not.
        from_start: Whether that holds from the first reading that they share.
        noises: How many times the noise they are apart from there on, at the median; ``inf`` where one of the runs is
            no longer finite or there is no noise; 0 where they do not stay apart.
        until: The last step that both have a reading of.
    """

    step: int | None
    from_start: bool
    noises: float
    until: int


@dataclass(frozen=True)
class _Pairs:
    """Readings of both runs at the same steps; ``broken`` where one of them only is not finite. Shapes ``[n]``."""

    steps: NDArray[np.int64]
    a: Floats
    b: Floats
    broken: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.steps)


def first_divergence(a: Points, b: Points) -> Verdict | None:
    """From which step on two runs stay apart.

    Args:
        a: One run's readings.
        b: The other's.

    Returns:
        The verdict; ``None`` where the runs share fewer than :data:`FEWEST` readings and none of them has ceased to be
        finite.
    """
    pairs = _pair(a, b)
    lost = _lost(pairs)
    if len(pairs) < FEWEST and lost == len(pairs):
        return None
    until = int(pairs.steps[-1])
    start, index, noises = _parting(*_comparable(pairs)) if len(pairs) >= FEWEST else (None, None, 0.0)
    if lost < len(pairs) and (index is None or lost <= index):
        return Verdict(int(pairs.steps[lost]), lost == 0, np.inf, until)
    if index is None:
        return Verdict(None, False, 0.0, until)
    return Verdict(int(pairs.steps[index]), start == 0, noises, until)


def _pair(a: Points, b: Points) -> _Pairs:
    """Readings of both runs that are each other's nearest; between differing steps, both are interpolated half way."""
    if len(a.steps) == 0 or len(b.steps) == 0:
        return _Pairs(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0, bool))
    of_a = np.arange(len(a.steps))
    of_b = _nearest(a.steps, b.steps)
    mutual = _nearest(b.steps, a.steps)[of_b] == of_a
    mutual &= np.abs(a.steps - b.steps[of_b]) <= max(_spacing(a.steps), _spacing(b.steps)) / 2
    of_a, of_b = of_a[mutual], of_b[mutual]
    steps = np.maximum(a.steps[of_a], b.steps[of_b])
    middle = (a.steps[of_a] + b.steps[of_b]) / 2
    values = [_at(points, which, middle) for points, which in ((a, of_a), (b, of_b))]
    sorts = [_sort(found) for found in values]
    kept = (sorts[0] == 0) | (sorts[0] != sorts[1])  # where both are NaN there is nothing to compare
    broken = sorts[0] != sorts[1]
    return _Pairs(steps[kept], values[0][kept], values[1][kept], broken[kept])


def _nearest(of: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.intp]:
    """For each step the position of the nearest one, the earlier of two that are as near."""
    right = np.clip(np.searchsorted(among, of), 1, max(1, len(among) - 1))
    right = np.minimum(right, len(among) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(of - among[left] <= among[right] - of, left, right)


def _spacing(steps: NDArray[np.int64]) -> float:
    return float(np.median(np.diff(steps))) if len(steps) > 1 else 0.0


def _at(points: Points, which: NDArray[np.intp], middle: Floats) -> Floats:
    """The chosen readings, where they are finite at the steps half way to those of the other run."""
    values = points.values[which]
    finite = np.isfinite(points.values)
    between = np.isfinite(values) & (middle != points.steps[which])
    if between.any():
        values[between] = np.interp(middle[between], points.steps[finite], points.values[finite])
    return values


def _sort(values: Floats) -> NDArray[np.int8]:
    """0 for finite values, else one number for NaN and each infinity."""
    return np.select([np.isnan(values), values == np.inf, values == -np.inf], [1, 2, 3], 0).astype(np.int8)


def _lost(pairs: _Pairs) -> int:
    """From which pair on one of the runs is not finite to the end; their number where both are."""
    whole = np.flatnonzero(~pairs.broken)
    return int(whole[-1]) + 1 if len(whole) else 0


def _comparable(pairs: _Pairs) -> tuple[_Pairs, float]:
    """The pairs on the scale on which their noise is even, and the smallest difference that float32 tells there.

    That is the logarithm, where no value is zero and all have one sign: the noise of such quantities grows with them.
    """
    sizes = np.abs(np.concatenate([pairs.a, pairs.b]))
    finite = np.isfinite(sizes)
    signs = np.sign(np.concatenate([pairs.a, pairs.b])[finite])
    if len(signs) and abs(signs.sum()) == len(signs):
        return _Pairs(pairs.steps, np.log(np.abs(pairs.a)), np.log(np.abs(pairs.b)), pairs.broken), RESOLUTION
    sizes = sizes[finite & (sizes > 0)]
    return pairs, RESOLUTION * float(np.median(sizes)) if len(sizes) else 0.0


def _parting(pairs: _Pairs, resolution: float) -> tuple[int | None, int | None, float]:
    """Where the level of the difference departs for good, the first reading there that does, and how far it goes."""
    whole = np.flatnonzero(~pairs.broken)
    if len(whole) < FEWEST:
        return None, None, 0.0
    u, v = pairs.a[whole], pairs.b[whole]
    stretch = -(-len(whole) // MOST)
    short = [_summed_up(values, stretch) for values in (u, v, u - v)]
    n = len(short[0])
    window = _window(n)
    levels = [_level(values, window) for values in short]
    noise = max(_noise(levels, window), resolution)
    far = np.abs(levels[2]) / noise if noise else np.where(levels[2] == 0, 0.0, np.inf)
    start = _last_rise(np.minimum(far / BEYOND, ENOUGH) - 1, max(window, PATIENCE))
    if start is None:
        return None, None, 0.0
    begin, half = start * stretch, window // 2
    level = abs(float(levels[2][min(start + half, n - 1)]))
    gone = np.abs((u - v)[begin : begin + half * stretch + 1]) > level / 2  # a median sees half a window ahead
    return start, int(whole[begin + int(np.argmax(gone))]), float(np.median(far[start:]))


def _summed_up(values: Floats, stretch: int) -> Floats:
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
    scatter = float(np.hypot(_spread(levels[0], window), _spread(levels[1], window)))
    lags = [window << doubled for doubled in range(16) if window << doubled <= len(levels[2]) // WINDOWS]
    wander = [_spread(_means(levels[2], lag // window), lag) for lag in lags]
    return max([scatter, *wander])


def _means(values: Floats, width: int) -> Floats:
    """Running means of ``width`` values. Shape ``[n - width + 1]``."""
    if width == 1:
        return values
    means: Floats = np.lib.stride_tricks.sliding_window_view(values, width).mean(axis=1)
    return means


def _spread(levels: Floats, lag: int) -> float:
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
