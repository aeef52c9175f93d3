"""From which step on two runs stay apart beyond noise, for one quantity.

Both runs' readings are paired by step. Whether their difference is more than chance is told by its likelihood, see
:mod:`cockpit.comparing.chance`; so is whether one of them has come to fluctuate more than the other. From where on is
told by the level of the difference, a running median, against two sorts of noise that the runs themselves show:

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

What has no noise, because it is set and not measured, is apart wherever it differs. Nothing depends on the unit of a
quantity, on which run comes first, or on the length of a step. :file:`docs/dashboard.md` says how often pairs of runs
that differ only in their seed are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cockpit.comparing.chance import change, even, jumps, probability, roughness
from cockpit.comparing.pairing import Pairs, pair
from cockpit.comparing.pairing import Points as Points

Floats: TypeAlias = NDArray[np.float64]

UNLIKELY = 0.01  # chance above which two runs are not apart
OF_LEVELS = 0.8  # of that, which is shared between levels and fluctuations
BEYOND = 3.0  # times the noise that levels must be apart
FEWEST = 8  # shared readings below which nothing is told
MOST = 1000  # stretches that the readings are summed up in
MOST_TESTED = 400  # and to tell how likely their difference is
TURNS = 0.05  # of its steps, of a curve that is a sum
SMOOTH = 0.02  # of a curve's steps, for their bends: those of a schedule, which has no noise
WINDOWS = 12  # of a run at least; more would leave a window too few readings
LONGEST_WINDOW = 25  # readings
PATIENCE = 5  # readings apart at least, and together at least
KEPT = 0.7  # share of deviations that noise is taken from, the smallest: the others may be the divergence
ENOUGH = 2.0  # times BEYOND: what is further apart counts no more than this
RESOLUTION = 2.0**-23  # of float32, in which trainings compute: smaller differences are none


@dataclass(frozen=True)
class Verdict:
    """What is known of one quantity in two runs.

    Args:
        step: The first reading of those from which on they stay apart; ``None`` where they do not.
        from_start: Whether that holds from the first reading that they share.
        noises: How many times the noise they are apart from there on, at the median; ``inf`` where one of the runs is
            no longer finite or there is no noise; 0 where they do not stay apart.
        until: The last step that both have a reading of.
        chance: How likely two runs that differ by chance alone come as far apart, about, and rather too high.
        spread: Whether it is in how much they fluctuate that they part.
    """

    step: int | None
    from_start: bool
    noises: float
    until: int
    chance: float
    spread: bool = False


@dataclass(frozen=True)
class _Parting:
    """From which reading on two series are apart, where they come to be: at ``start`` by their levels, at ``index`` by
    the first reading there that is.
    """

    start: int
    index: int
    noises: float


def first_divergence(a: Points, b: Points, *, exact: bool = False) -> Verdict | None:
    """From which step on two runs stay apart.

    Args:
        a: One run's readings.
        b: The other's.
        exact: Whether they are set and not measured, so that any difference counts.

    Returns:
        The verdict; ``None`` where the runs share fewer than :data:`FEWEST` readings and none of them has ceased to be
        finite.
    """
    pairs = pair(a, b)
    lost = _lost(pairs)
    if len(pairs) < FEWEST and lost == len(pairs):
        return None
    until = int(pairs.steps[-1])
    whole = np.flatnonzero(~pairs.broken)
    parting, chance, spread = None, 1.0, False
    if len(whole) >= FEWEST:
        parting, chance, spread = _parting(pairs.a[whole], pairs.b[whole], exact, pairs.as_read)
    index = None if parting is None else int(whole[parting.index])
    if lost < len(pairs) and (index is None or lost <= index):
        return Verdict(int(pairs.steps[lost]), lost == 0, np.inf, until, 0.0)
    if parting is None or index is None:
        return Verdict(None, False, 0.0, until, chance)
    chance = 0.0 if lost < len(pairs) else chance  # that they are apart later on is sure
    return Verdict(int(pairs.steps[index]), parting.start == 0, parting.noises, until, chance, spread)


def _lost(pairs: Pairs) -> int:
    """From which pair on one of the runs is not finite to the end; their number where both are."""
    whole = np.flatnonzero(~pairs.broken)
    return int(whole[-1]) + 1 if len(whole) else 0


def _parting(a: Floats, b: Floats, exact: bool, as_read: bool) -> tuple[_Parting | None, float, bool]:
    """Where finite readings part, if they do; how likely that is by chance; and whether by how much they fluctuate."""
    u, v, resolution, log = _comparable(a, b)
    differences = np.where(np.abs(u - v) <= resolution, 0.0, u - v)
    if exact or not differences.any():
        return _located(u, v, resolution), 0.0 if exact else 1.0, False
    smooth = _is_smooth(u), _is_smooth(v)
    if all(smooth):
        chance = 0.0 if log or not _stands_still(differences) else jumps(differences)
        return _located(u, v, resolution) if chance <= UNLIKELY else None, chance, False
    grow = _grows(a) and _grows(b)  # sums, whose increments are what is alike
    of_level = _chance(a - b if grow else differences) / OF_LEVELS
    parting = _located(u, v, resolution) if of_level <= UNLIKELY else None
    rough = roughness(u, v) if parting is None and as_read and not any(smooth) else None  # means of two scatter less
    if rough is None:
        return parting, min(1.0, of_level), False
    ratios, length = rough
    found = change(ratios)
    of_spread = probability(found.ratio) / (1 - OF_LEVELS)
    parting = _last_parting(ratios, found.at) if of_spread <= UNLIKELY else None
    if parting is None:
        return None, min(1.0, of_level), False
    return replace(parting, start=parting.start * length, index=parting.index * length), of_spread, True


def _last_parting(ratios: Floats, at: int) -> _Parting | None:
    """Where fluctuations part, if they still are apart at the end."""
    level, end = (float(np.median(ratios[first:])) for first in (at, len(ratios) - PATIENCE))
    if level == 0 or end / level < 0.5:
        return None
    return _Parting(at, at, abs(level) / max(_spread(ratios, 1), RESOLUTION))


def _grows(values: Floats) -> bool:
    """Whether a curve hardly ever turns, upwards or downwards."""
    moves = np.sign(np.diff(values))
    return bool(min(np.count_nonzero(moves < 0), np.count_nonzero(moves > 0)) <= TURNS * len(values))


def _chance(differences: Floats) -> float:
    if _stands_still(differences):
        return jumps(differences)
    return probability(change(even(_summed_up(differences, -(-len(differences) // MOST_TESTED)))).ratio)


def _is_smooth(values: Floats) -> bool:
    """Whether nothing in a curve is noise: its bends change by little, but for a few corners."""
    return _usual(np.diff(values, 3)) <= SMOOTH * _usual(np.diff(values))


def _usual(values: Floats) -> float:
    """Root of the mean square of the smallest of the values."""
    sizes = np.sort(np.abs(values))[: max(1, int(KEPT * len(values)))]
    return float(np.sqrt(np.mean(sizes**2)))


def _stands_still(values: Floats) -> bool:
    """Whether most values are as the one before."""
    return bool(np.count_nonzero(np.diff(values)) < len(values) / 2)


def _comparable(a: Floats, b: Floats) -> tuple[Floats, Floats, float, bool]:
    """Finite readings on the scale on which their noise is even, the smallest difference that float32 tells there, and
    whether that is the logarithm.

    So it is where no value is zero and all have one sign: the noise of such quantities grows with them.
    """
    both = np.concatenate([a, b])
    if abs(np.sign(both).sum()) == len(both):
        return np.log(np.abs(a)), np.log(np.abs(b)), RESOLUTION, True
    sizes = np.abs(both[both != 0])
    return a, b, RESOLUTION * float(np.median(sizes)) if len(sizes) else 0.0, False


def _located(u: Floats, v: Floats, resolution: float) -> _Parting | None:
    """Where the level of the difference departs for good."""
    stretch = -(-len(u) // MOST)
    short = [_summed_up(values, stretch) for values in (u, v, u - v)]
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
    return _Parting(start, begin + int(np.argmax(gone)), float(np.median(far[start:])))


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
