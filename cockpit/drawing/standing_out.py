r"""How far layers stand out: each from its neighbours in depth, and from its own past.

With :math:`v_i` the value of layer i (its logarithm to base 10 on a logarithmic scale), :math:`d_i` its distance from
the median of its neighbours and :math:`p_i` that from the median of its own earlier readings,

.. math::
    \text{score}_i = \max\left( \frac{|d_i|}{s}, \frac{|p_i|}{s_i} \right), \qquad
    s = \max(1.4826 \, \mathrm{median}_j |d_j|, f), \quad s_i = \max(1.4826 \, \mathrm{MAD}_i, f)

where :math:`\mathrm{MAD}_i` is the median absolute deviation of the earlier readings. The factor makes :math:`s` the
standard deviation where the distances are normally distributed. The floor :math:`f` keeps rounding from standing out:
0.05, an eighth, on a logarithmic scale, else 2 % of the range of the whole run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.quantiles import medians

NEIGHBOURS = 2  # on either side, and at the ends so many more on the other: of two, none can be told from the other
ALIKE = 3  # layers of a type that are compared with each other alone
FEWEST = 5  # earlier readings that make a past
NORMAL = 1.4826  # standard deviations in a median absolute deviation of normally distributed numbers
STANDS_OUT = 4.0  # the score from which a layer does
DECADES, RANGE = 0.05, 0.02  # the floor, by scale
BELOW = 1e-3  # what a logarithmic scale has no place for counts as this times the least that it has one for
FORMULA = (
    "score = max( |v − median of the neighbours| / s, |v − median of its own past| / s′ ). Here v is the value or, on "
    "a logarithmic scale, its logarithm; s is 1.4826 × the median of all layers' distances from their neighbours, s′ "
    "that of the layer's own past from its median, and neither is below 0.05 decades or, on a linear scale, 2 % of "
    "the range. Neighbours are the four nearest layers, two on either side but at the ends, of its own type where "
    "there are three or more. A value that is not a finite number stands out without bound."
)


@dataclass(frozen=True)
class Scores:
    """How many usual distances layers are away; NaN where that is not known, infinite where the value is no number.

    Args:
        neighbours: From their neighbours. Shape ``[L]``.
        past: From their own past. Shape ``[L]``.
    """

    neighbours: NDArray[np.float64]
    past: NDArray[np.float64]

    @property
    def score(self) -> NDArray[np.float64]:
        """The larger of both, as far as known. Shape ``[L]``."""
        return np.fmax(self.neighbours, self.past)


def scores(
    values: NDArray[np.float64], history: NDArray[np.float64], missing: NDArray[np.bool_], kinds: Sequence[str], *,
    log: bool,
) -> Scores:  # fmt: skip
    """How far layers stand out.

    Args:
        values: Of the layers, in depth order. Shape ``[L]``.
        history: Their earlier readings, NaN where one is missing or no number. Shape ``[n, L]``.
        missing: Which of ``values`` are missing: these have no score. Shape ``[L]``.
        kinds: The layers' types.
        log: Whether the scale is logarithmic.
    """
    broken = ~missing & ~np.isfinite(values)
    known = np.where(missing | broken, np.nan, values)
    everything = np.vstack([history, known[None, :]])
    placed = logarithms(everything) if log else everything
    floor = DECADES if log else RANGE * _range(placed)
    near = _usual(from_neighbours(placed[-1], kinds), floor)
    past = _from_past(placed[-1], placed[:-1], floor)
    return Scores(*(np.where(broken, np.inf, found) for found in (near, past)))


def logarithms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """To base 10; zeros and what lies below count as :data:`BELOW` times the smallest positive of ``values``.

    Example:
        >>> logarithms(np.array([10.0, 0.0, 1.0])).tolist()
        [1.0, -3.0, 0.0]
    """
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    least = BELOW * float(positive.min()) if len(positive) else 1.0
    with np.errstate(invalid="ignore"):
        return np.log10(np.where(values > 0, values, np.where(np.isnan(values), np.nan, least)))


def from_neighbours(values: NDArray[np.float64], kinds: Sequence[str]) -> NDArray[np.float64]:
    """Each layer's distance from the median of its neighbours.

    Args:
        values: In depth order, NaN where unknown. Shape ``[L]``.
        kinds: The layers' types. A layer is compared with those of its own type where at least three have a value,
            else with all.

    Returns:
        Shape ``[L]``; NaN for a layer without value or without neighbours.

    Example:
        >>> from_neighbours(np.array([1.0, 1.0, 5.0, 1.0]), ["a"] * 4).tolist()
        [0.0, 0.0, 4.0, 0.0]
    """
    known = np.flatnonzero(np.isfinite(values))
    types: dict[str, list[int]] = {}
    for index in known.tolist():
        types.setdefault(kinds[index], []).append(index)
    around = np.full((len(values), 2 * NEIGHBOURS), np.nan)
    for index in known.tolist():
        own = types[kinds[index]]
        among = np.array(own) if len(own) >= ALIKE else known
        others = among[among != index]
        first = max(0, min(int(np.searchsorted(others, index)) - NEIGHBOURS, len(others) - 2 * NEIGHBOURS))
        near = others[first : first + 2 * NEIGHBOURS]
        around[index, : len(near)] = values[near]
    return values - medians(around.T)


def _usual(distances: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """Distances over the usual one."""
    if not np.isfinite(distances).any():
        return distances
    return np.abs(distances) / max(NORMAL * float(np.nanmedian(np.abs(distances))), floor)


def _from_past(values: NDArray[np.float64], history: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """Each layer's distance from the median of its past over the usual one; NaN before it has one."""
    past = np.where(np.isfinite(history).sum(0) >= FEWEST, history, np.nan)
    middle = medians(past)
    usual: NDArray[np.float64] = np.fmax(NORMAL * medians(np.abs(past - middle)), floor)
    found: NDArray[np.float64] = np.abs(values - middle) / usual
    return found


def _range(values: NDArray[np.float64]) -> float:
    """Between the smallest and the largest; a tiny number where all are one."""
    finite = values[np.isfinite(values)]
    return float(np.ptp(finite)) or 1e-12 if len(finite) else 1.0
