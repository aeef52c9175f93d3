r"""How likely two runs come as far apart as they did by chance alone.

Trainings that differ in their seed are never the same: a loss scatters, a norm wanders, and a distance, a sum over all
steps, drifts apart for good. So a difference is not measured against one kind of noise but against all of them: it is
taken for an ARMA(1, 1) process, :math:`d_t = \varphi\, d_{t-1} + v_t - \theta\, v_{t-1}`, of coefficients that suit
it best, from white noise (:math:`\varphi = \theta = 0`) over noise that depends on the reading before to a random walk
(:math:`\varphi = 1`), plain or under white noise; or for a sum of such increments.

What speaks against chance is a change: from some reading on a constant or a growing difference is added. The statistic
is the generalised likelihood ratio of the best process with the best change to the best process without one (Willsky
and Jones, *A generalized likelihood ratio approach to the detection and estimation of jumps in linear systems*, IEEE
Transactions on Automatic Control 21, 1976). For an integrated process that compares increments with each other.
Innovations :math:`v_t` are cut off a little beyond the largest few, so that a lone outlier is no change.

The statistic's distribution without a change hardly depends on the process, and :func:`probability` is fitted to it,
from above (:file:`tests/comparing/test_chance.py` tries fifteen).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

PHI = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
THETA = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98)  # as far as below φ: noise of trainings does not alternate
PSI = (0.3, 0.6, 0.8, 0.9, 0.95)  # of the increments of sums: d'_t = ψ d'_{t-1} + v_t
LAST = 5  # readings at the end that make no change of their own
LARGEST, BEYOND = 25, 1.5  # one of so many innovations may be larger than what others are cut off at, over this factor
_PART, _FEWEST_PARTS, _MOST_PARTS = 12, 4, 16  # readings that tell how large steps are, and how many times that is told
_LEAST = 0.02  # of the usual size
_FEWEST = 8  # ratios that tell anything


@dataclass(frozen=True)
class Change:
    """What speaks most against chance.

    Args:
        ratio: Twice the logarithm of the likelihood ratio.
        at: The reading from which on there is a difference.
    """

    ratio: float
    at: int


@dataclass(frozen=True)
class _Family:
    """The processes, for so many readings, as what turns differences into innovations. ``C`` processes.

    Args:
        size: Of Fourier transforms.
        first: Innovations that a first difference of one makes, of which the process was never without noise. Shape
            ``[C, n]``.
        spread: Logarithm of the first difference's standard deviation over an innovation's. Shape ``[C]``.
        whiten: Transform of the innovations that a later difference of one makes. Shape ``[C, size // 2 + 1]``.
        changes: For a constant and a growing difference: the conjugate transform of their innovations, and for each
            reading they may begin at their sum of squares, shape ``[C, n]``.
        start: Innovations of a difference that has been there from the first reading. Shape ``[C, n]``.
    """

    size: int
    first: Floats
    spread: Floats
    whiten: NDArray[np.complex128]
    changes: tuple[tuple[NDArray[np.complex128], Floats], ...]
    start: Floats


@lru_cache(maxsize=8)
def _family(n: int) -> _Family:
    processes = [(phi, theta) for phi in PHI for theta in THETA if theta < phi or theta == 0]
    later, first, spread = (list(each) for each in zip(*(_arma(*each, n) for each in processes), strict=True))
    for psi in PSI:
        summed = np.zeros(n)
        summed[:3] = 1, -(1 + psi), psi
        later, first, spread = [*later, summed], [*first, summed], [*spread, 0.0]
    impulse, size = np.array(later), 1 << (2 * n - 1).bit_length()
    constant = impulse.cumsum(1)
    start = np.array(first)
    start[:, 1:] += constant[:, :-1]
    shapes = constant, constant.cumsum(1) / n
    changes = tuple((np.fft.rfft(each, size).conj(), (each**2).cumsum(1)[:, ::-1]) for each in shapes)
    return _Family(size, np.array(first), np.array(spread), np.fft.rfft(impulse, size), changes, start)


def _arma(phi: float, theta: float, n: int) -> tuple[Floats, Floats, float]:
    """Innovations that a later and a first difference of one make, and the latter's standard deviation, as logarithm.

    A random walk begins where both runs are together, a process that returns to its mean is in the midst of it.
    """
    variance = 1.0 if phi == 1 else (1 - 2 * phi * theta + theta**2) / (1 - phi**2)
    powers = theta ** np.arange(n, dtype=np.float64)
    later, first = np.empty(n), np.empty(n)
    later[0], later[1:] = 1, (theta - phi) * powers[:-1]
    first[0], first[1:] = 1 / math.sqrt(variance), (theta / variance - phi) * powers[:-1]
    return later, first, math.log(variance) / 2


def change(differences: Floats) -> Change:
    """The change that speaks most against chance.

    Args:
        differences: Of noise that is even; not all zero. Shape ``[n]``, more than :data:`LAST`.
    """
    n = len(differences)
    family = _family(n)
    rest = np.append(0.0, differences[1:])
    found = np.fft.irfft(np.fft.rfft(rest, family.size) * family.whiten, family.size)[:, :n]
    found += differences[0] * family.first
    tail = n - max(3, n // LARGEST)
    most = BEYOND * np.partition(np.abs(found), tail, axis=1)[:, tail, None]
    most[most == 0] = np.inf  # where all else is without noise, there is nothing to be beyond
    found = np.clip(found, -most, most)
    transformed = np.fft.rfft(found, family.size)
    gains = np.zeros((len(found), n - LAST))
    for conjugate, squares in family.changes:
        along = np.fft.irfft(transformed * conjugate, family.size)[:, : n - LAST]
        gains = np.maximum(gains, along**2 / squares[:, : n - LAST])
    gains[:, 0] = (found * family.start).sum(1) ** 2 / (family.start**2).sum(1)
    places = gains.argmax(1)
    whole = (found**2).sum(1)
    left = np.maximum(whole - gains[np.arange(len(places)), places], 1e-12 * whole)
    with np.errstate(divide="ignore"):
        without, with_one = (-n / 2 * np.log(squares) - family.spread for squares in (whole, left))
    best = int(with_one.argmax())
    return Change(2 * float(with_one[best] - without.max()), int(places[best]))


def probability(ratio: float) -> float:
    """Of a ratio so large without a change; above what was seen for every process and any number of readings."""
    return min(1.0, 0.05 * math.exp(-0.35 * (ratio - 16)))


def even(differences: Floats) -> Floats:
    """Differences whose scatter is the same throughout: each step from one to the next over the usual size there.

    That is a parabola in the logarithm: something smoother than what is tested. Else it would itself look like a walk.

    Args:
        differences: Shape ``[n]``.
    """
    moves = np.diff(differences, prepend=0.0)
    sizes = np.abs(moves[1:])
    parts = min(_MOST_PARTS, len(sizes) // _PART)
    usual = float(np.median(sizes))
    if parts < _FEWEST_PARTS or usual == 0:
        return differences
    middles = np.array([np.median(part) for part in np.array_split(sizes, parts)])
    places = (np.arange(parts) + 0.5) / parts
    curve = np.polyfit(places, np.log(np.maximum(middles / usual, _LEAST)), 2)
    evened: Floats = np.cumsum(moves / np.exp(np.polyval(curve, np.linspace(0, 1, len(moves)))))
    return evened


def roughness(u: Floats, v: Floats) -> tuple[Floats, int] | None:
    """How much more one run fluctuates than the other: logarithms of ratios, and how many readings each is made of.

    ``None`` where there are too few, or one of the runs stands still for a while.
    """
    length = max(3, len(u) // 128)
    number = (len(u) - 2) // length
    if number < _FEWEST:
        return None
    bends = (np.abs(np.diff(each, 2))[: number * length].reshape(number, length).mean(1) for each in (u, v))
    of_u, of_v = bends
    if not (of_u.all() and of_v.all()):
        return None
    return np.log(of_u) - np.log(of_v), length  # exactly the negative of what it is the other way round


def jumps(differences: Floats) -> float:
    """Probability that jumps of a difference that else stands still add up to what it is at the end.

    Args:
        differences: Shape ``[n]``, of which more than half are as the one before.
    """
    moves = np.diff(differences, prepend=0.0)
    moves = moves[moves != 0]
    if not len(moves):
        return 1.0
    sizes = np.sort(np.abs(moves))
    others = math.hypot(float(np.sqrt((sizes[:-1] ** 2).sum())), float(sizes[0]))
    return math.erfc(abs(float(np.median(differences[-LAST:]))) / others / math.sqrt(2))
