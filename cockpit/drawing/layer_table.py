"""The rows of the table of layers: modules in depth order, those that belong together folded into one row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.quantiles import medians
from cockpit.drawing.standing_out import STANDS_OUT
from cockpit.layers import By, Owner, names_of_groups

GROUPINGS: dict[By, str] = {
    "position": "Repeated blocks folded",
    "depth": "Every module",
    "block": "By block",
    "type": "By type",
}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        name: The module's, or the group's.
        members: Places of its modules in depth order.
        unfolded: Whether its modules follow as rows of their own.
        inner: Whether it is one of those.
    """

    name: str
    members: tuple[int, ...]
    unfolded: bool = False
    inner: bool = False


@dataclass(frozen=True)
class Cell:
    """What a row shows of one column.

    Args:
        middle: The median over the row's modules; of one module its value. NaN: missing.
        low: The smallest of them.
        high: The largest.
        score: The highest score among them; NaN where none is known.
    """

    middle: float
    low: float
    high: float
    score: float


def grouping_of(name: str) -> By:
    """The grouping called ``name``; for any other word that which folds repeated blocks."""
    return next((known for known in GROUPINGS if known == name), "position")


def rows_of(
    modules: Sequence[str], owners: Mapping[str, Owner], grouping: By, unfolded: Collection[str] = ()
) -> list[list[Row]]:
    """The rows in depth order: each outer one with the rows that follow it.

    Args:
        modules: In depth order.
        owners: Their types, by name.
        grouping: One of :data:`GROUPINGS`.
        unfolded: Names of groups whose modules are shown.
    """
    names = names_of_groups(modules, owners, grouping)
    if grouping == "position":  # the layers of a plain sequence are numbered too, and no repetitions of each other
        names = [name if _is_in_a_block(module) else module for name, module in zip(names, modules, strict=True)]
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    found = []
    for name, members in groups.items():
        if len(members) == 1:
            found.append([Row(modules[members[0]], (members[0],))])
            continue
        opened = name in unfolded
        inner = [Row(modules[member], (member,), inner=True) for member in members] if opened else []
        found.append([Row(name, tuple(members), opened), *inner])
    return found


def _is_in_a_block(module: str) -> bool:
    """Whether a number stands in the name that the module is not itself."""
    return any(part.isdecimal() for part in module.split(".")[:-1])


def cell(row: Row, values: NDArray[np.float64], scores: NDArray[np.float64]) -> Cell:
    """What ``row`` shows of a column.

    Args:
        row: The row.
        values: Of all modules, NaN where missing. Shape ``[L]``.
        scores: How far they stand out. Shape ``[L]``.
    """
    known = values[list(row.members)]
    known = known[~np.isnan(known)]
    told = scores[list(row.members)]
    told = told[~np.isnan(told)]
    score = float(told.max()) if len(told) else float("nan")
    if not len(known):
        return Cell(float("nan"), float("nan"), float("nan"), score)
    return Cell(float(np.median(known)), float(known.min()), float(known.max()), score)


def middles(rows: Sequence[Row], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median over each row's modules, at every step.

    Args:
        rows: The rows.
        values: NaN where missing. Shape ``[n, L]``.

    Returns:
        NaN where all of a row's modules are missing. Shape ``[n, rows]``.
    """
    found = np.full((len(values), len(rows)), np.nan)
    for place, row in enumerate(rows):
        found[:, place] = medians(values[:, row.members].T)
    return found


def order_by_score(scores: Sequence[float]) -> list[int]:
    """Places of rows: those that stand out first, the most first, all others in depth order.

    Only whole numbers count, so that rows of a live run do not change places for nothing.

    Args:
        scores: Of the rows in depth order; NaN: not known.
    """
    ranks = [-score if np.isinf(score) else -np.floor(score) if score >= STANDS_OUT else 0.0 for score in scores]
    return sorted(range(len(ranks)), key=lambda place: ranks[place])


def order_by_value(values: Sequence[float]) -> list[int]:
    """Places of rows from the largest value down; those without one last, in depth order."""
    return sorted(range(len(values)), key=lambda place: np.inf if np.isnan(values[place]) else -values[place])


@dataclass(frozen=True)
class Extent:
    """Where the bars of a column begin and end, the same at every step of the run.

    Args:
        low: The value that has no bar.
        high: The value whose bar fills the cell.
        log: Whether their logarithms count.
    """

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, values: NDArray[np.float64], *, log: bool) -> Extent:
        """That of all ``values``; NaN, infinities and what has no logarithm do not count."""
        finite = values[np.isfinite(values)]
        finite = finite[finite > 0] if log else finite
        if not len(finite):
            return cls(0.1, 1.0, log)
        low, high = float(finite.min()), float(finite.max())
        if log:
            return cls(low / 2, max(high, low * 1.001), log)
        low = 0.0 if low >= 0 else low - 0.08 * (high - low or abs(low))
        return cls(low, high if high > low else low + 1.0, log)

    def share(self, value: float) -> float:
        """How much of the cell the bar of ``value`` fills, from 0 to 1; 0 for what has no bar."""
        if np.isnan(value) or (self.log and value <= 0):
            return 0.0
        if np.isinf(value):
            return float(value > 0)
        low, high, at = np.log([self.low, self.high, value]) if self.log else (self.low, self.high, value)
        return float(np.clip((at - low) / (high - low), 0, 1))
