"""From which step on two runs stay apart beyond noise, for one quantity.

Both runs' readings are paired by step. Whether their difference is more than chance is told by its likelihood, see
:mod:`cockpit.comparing.chance`; so is whether one of them has come to fluctuate more than the other. What leaves no
doubt needs no likelihood, see :mod:`cockpit.comparing.effect`: runs that have settled far apart, that were each
other's copy up to a step, or of which one does not move, or no longer. From where on is told by the level of the
difference, see :mod:`cockpit.comparing.level`, or by where a change makes it most likely, if the level hardly leaves
the noise. What is so or not has no level, but a share: :mod:`cockpit.comparing.shares`.

What has no noise, because it is set and not measured, is apart wherever it differs. Nothing depends on which run comes
first, on the length of a step, or on the unit of a quantity, but that only readings from 0 to 1 are taken for shares.
:file:`docs/dashboard.md` says how often pairs of runs that differ only in their seed are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cockpit.comparing.chance import change, even, jumps, probability, roughness
from cockpit.comparing.effect import departure, far, fork, leap, stands
from cockpit.comparing.level import KEPT, PATIENCE, Parting, located, spread, summed_up
from cockpit.comparing.pairing import Pairs, pair
from cockpit.comparing.pairing import Points as Points
from cockpit.comparing.shares import are_shares, chance_of_shares, flags, flickers, since

Floats: TypeAlias = NDArray[np.float64]

UNLIKELY = 0.02  # chance above which two runs are not apart
OF_LEVELS = 0.8  # of that, which is shared between levels and fluctuations
FEWEST = 8  # shared readings below which nothing is told
MOST_TESTED = 400  # and to tell how likely their difference is
SEEN = 2.0  # times the scatter of single readings that a level is apart that hardly leaves the noise of levels
STANDING = 12  # one of so many parts of a run at least, the last, is without a move where a run has stopped
TURNS = 0.05  # of its steps, of a curve that is a sum
SMOOTH = 0.02  # of a curve's steps, for their bends: those of a schedule, which has no noise
RESOLUTION = 2.0**-20  # eight times that of float32, in which trainings compute: smaller differences are none


@dataclass(frozen=True)
class Verdict:
    """What is known of one quantity in two runs.

    Args:
        step: The first reading of those from which on they stay apart; ``None`` where they do not.
        from_start: Whether that holds from the first few readings that they share.
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
        chance = min(1.0, chance)  # of one test of several it may come to more
    index = None if parting is None else int(whole[parting.index])
    if lost < len(pairs) and (index is None or lost <= index):
        return Verdict(int(pairs.steps[lost]), lost == 0, np.inf, until, 0.0)
    if parting is None or index is None:
        return Verdict(None, False, 0.0, until, chance)
    chance = 0.0 if lost < len(pairs) else chance  # that they are apart later on is sure
    from_start = parting.start == 0 and parting.index < PATIENCE
    return Verdict(int(pairs.steps[index]), from_start, parting.noises, until, chance, spread)


def _lost(pairs: Pairs) -> int:
    """From which pair on one of the runs is not finite to the end; their number where both are."""
    whole = np.flatnonzero(~pairs.broken)
    return int(whole[-1]) + 1 if len(whole) else 0


def _parting(a: Floats, b: Floats, exact: bool, as_read: bool) -> tuple[Parting | None, float, bool]:
    """Where finite readings part, if they do; how likely that is by chance; and whether by how much they fluctuate."""
    if not exact and flickers(a, b):
        return *_of_shares(*flags(a, b)), False
    u, v, resolution, log = _comparable(a, b)
    differences = np.where(np.abs(u - v) <= resolution, 0.0, u - v)
    if exact or not differences.any():
        return located(u, v, resolution), 0.0 if exact else 1.0, False
    sure = _sure(u, v, differences, resolution, as_read)
    if sure is not None:
        return sure, 0.0, False
    smooth = _is_smooth(u), _is_smooth(v)
    if all(smooth) and (log or not _stands_still(differences)):
        return located(u, v, resolution), 0.0, False
    if all(smooth):
        return *_of_jumps(a, b, u, v, differences, resolution), False
    grow = _grows(a) and _grows(b)  # sums, whose increments are what is alike
    if _stands_still(a - b if grow else differences):
        parting, chance = _of_jumps(a, b, u, v, a - b if grow else differences, resolution)
    else:
        parting, chance = _of_levels(u, v, differences, resolution, a - b if grow else None)
    if parting is not None or not as_read or any(smooth):  # means of two scatter less
        return parting, chance, False
    fluctuation, of_spread = _of_fluctuation(u, v)
    return (None, chance, False) if fluctuation is None else (fluctuation, of_spread, True)


def _of_shares(a: Floats, b: Floats, part: float = 1.0) -> tuple[Parting | None, float]:
    """Where shares part, or what is so (1) or not (0), and how likely they come as far apart by chance.

    ``part``: Of :data:`UNLIKELY`, what this test may take where it is one of several.
    """
    chance = chance_of_shares(a, b) / part
    if chance > UNLIKELY:
        return None, chance
    at, share = since(a, b)
    scatter = float(np.hypot(a[at:].std(), b[at:].std()))
    return Parting(at, at, share / scatter if scatter else np.inf), chance


def _of_jumps(
    a: Floats, b: Floats, u: Floats, v: Floats, tested: Floats, resolution: float
) -> tuple[Parting | None, float]:
    """The same of what stands still most of the time: by its jumps, and of shares half as such."""
    shares = are_shares(a, b)
    part = OF_LEVELS / 2 if shares else OF_LEVELS
    chance = jumps(tested) / part
    parting = located(u, v, resolution) if chance <= UNLIKELY else None
    if not shares:
        return parting, chance
    as_shares, of_shares = _of_shares(a, b, part)
    return parting or as_shares, min(chance, of_shares)


def _of_levels(
    u: Floats, v: Floats, differences: Floats, resolution: float, sums: Floats | None = None
) -> tuple[Parting | None, float]:
    """Where levels part, and how likely they come as far apart by chance; ``sums``: the difference of such."""
    tested = differences if sums is None else sums
    of_change, at = _change(tested)
    of_change /= OF_LEVELS
    of_leap, there = leap(differences) if sums is None else (1.0, None)
    chance = min(of_change, of_leap, far(u, v)) if sums is None else of_change
    parting = located(u, v, resolution) if chance <= UNLIKELY else None
    if parting is None and of_change <= UNLIKELY / 2:
        parting = _changed(tested, at)
    if parting is None and there is not None and of_leap <= UNLIKELY:
        parting = _changed(differences, there)
    return parting, chance


def _of_fluctuation(u: Floats, v: Floats) -> tuple[Parting | None, float]:
    """Where one run comes to fluctuate more than the other, and how likely it does so by chance."""
    rough = roughness(u, v)
    if rough is None:
        return None, 1.0
    ratios, length = rough
    found = change(ratios)
    chance = probability(found.ratio) / (1 - OF_LEVELS)
    parting = _last_parting(ratios, found.at) if chance <= UNLIKELY else None
    if parting is None:
        return None, chance
    return replace(parting, start=parting.start * length, index=parting.index * length), chance


def _sure(u: Floats, v: Floats, differences: Floats, resolution: float, as_read: bool) -> Parting | None:
    """Where one run ceases to be the other's copy, or leaves the value at which that one stands."""
    index = fork(u, v, differences) if as_read else None
    if index is None:
        index = _stopped(u, v, differences, resolution)
    return None if index is None else Parting(index, index, _apart(u[index:], v[index:]))


def _stopped(u: Floats, v: Floats, differences: Floats, resolution: float) -> int | None:
    """From which reading on one run stands still to the end, and the other moves on one side of it.

    It did so from the first reading on, or was different at each of them: what is counted may stand still by chance.
    """
    (first, of), (last, _) = sorted(((stands(each, resolution), at) for at, each in enumerate((u, v))))
    if first == last or len(u) - first < max(FEWEST, len(u) // STANDING) or _stands_still(differences[first:]):
        return None
    if len(np.unique((u, v)[of][:first])) < first / 2:
        return None
    index = departure(differences[first:], PATIENCE)
    return None if index is None else first + index


def _apart(u: Floats, v: Floats) -> float:
    """How many times the scatter of single readings two runs are apart at the median."""
    noise = float(np.hypot(spread(u, 1), spread(v, 1)))
    return float(np.median(np.abs(u - v))) / noise if noise else np.inf


def _last_parting(ratios: Floats, at: int) -> Parting | None:
    """Where fluctuations part, if they still are apart at the end."""
    level, end = (float(np.median(ratios[first:])) for first in (at, len(ratios) - PATIENCE))
    if level == 0 or end / level < 0.5:
        return None
    return Parting(at, at, abs(level) / max(spread(ratios, 1), RESOLUTION))


def _grows(values: Floats) -> bool:
    """Whether a curve hardly ever turns, upwards or downwards."""
    moves = np.sign(np.diff(values))
    return bool(min(np.count_nonzero(moves < 0), np.count_nonzero(moves > 0)) <= TURNS * len(values))


def _change(differences: Floats) -> tuple[float, int]:
    """How likely a difference is by chance, and from which reading on it speaks most against that."""
    stretch = -(-len(differences) // MOST_TESTED)
    found = change(even(summed_up(differences, stretch)))
    return probability(found.ratio), found.at * stretch


def _changed(differences: Floats, at: int) -> Parting | None:
    """Where a difference changed whose level hardly leaves the noise, if it still is as far off at the end."""
    later = differences[at:]
    level, end = (float(np.median(values)) for values in (later, differences[-max(PATIENCE, len(later) // 3) :]))
    noise = spread(differences, 1)
    if abs(level) <= SEEN * noise or noise == 0 or end / level < 0.5:
        return None
    return Parting(at, at, abs(level) / noise)


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
