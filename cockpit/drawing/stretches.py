"""Layer-wise numbers of a long run in few columns: of every stretch of readings the value that stands out most.

A drawing has room for some hundred columns. Readings at even distances would leave out what happened between them; here
each column stands for all readings of a stretch, and no spike, NaN or infinity among them is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.quantiles import medians
from cockpit.store import Column

Floats: TypeAlias = NDArray[np.float64]

NEAR = 2  # stretches on either side that a level is taken from, beside the own one
_FINITE, _MINUS, _PLUS, _NAN = range(4)  # of several in a stretch the highest is told
_ODD = np.array([0.0, -np.inf, np.inf, np.nan])


def _none() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


def _nowhere() -> NDArray[np.bool_]:
    return np.zeros((0, 0), bool)


@dataclass(frozen=True)
class Stretched(Column):
    """A column of which every point stands for a stretch of readings; steps and times are those of its last one.

    Args:
        begins: The step of each stretch's first reading. Shape ``[n]``.
        begin_times: Its seconds since the run began. Shape ``[n]``.
        hidden: Where a stretch has readings at or below zero, which have no logarithm. Shape ``[n, L]``.
    """

    begins: NDArray[np.int64] = field(default_factory=_none)
    begin_times: Floats = field(default_factory=lambda: np.zeros(0))
    hidden: NDArray[np.bool_] = field(default_factory=_nowhere)


@dataclass(frozen=True)
class _Table:
    """Stretches of readings. Of steps and times shape ``[n]``, of layers ``[n, L]``; NaN where there is no such value.

    Args:
        begins: First step.
        begin_times: Its time.
        ends: Last step.
        end_times: Its time.
        least: Smallest finite value.
        positive: Smallest of those above zero.
        most: Largest.
        last: The last reading, if it is finite.
        odd: What else there was: nothing, or an infinity or NaN.
        missing: Whether there was no value at all.
    """

    begins: NDArray[np.int64]
    begin_times: Floats
    ends: NDArray[np.int64]
    end_times: Floats
    least: Floats
    positive: Floats
    most: Floats
    last: Floats
    odd: NDArray[np.int8]
    missing: NDArray[np.bool_]

    @classmethod
    def of(cls, column: Column) -> _Table:
        """Each reading a stretch of its own."""
        values = column.values.astype(np.float64)
        sorts = [np.isneginf(values), np.isposinf(values), np.isnan(values)]
        odd = np.select(sorts, [_MINUS, _PLUS, _NAN], _FINITE).astype(np.int8)
        odd[column.missing] = _FINITE
        finite = np.where(column.missing | (odd != _FINITE), np.nan, values)
        with np.errstate(invalid="ignore"):
            positive = np.where(finite > 0, finite, np.nan)
        when = (column.steps, column.times)
        return cls(*when, *when, finite, positive, finite, finite, odd, column.missing)

    def __len__(self) -> int:
        return len(self.ends)

    def placed(self, places: NDArray[np.intp], layers: int) -> _Table:
        """Among so many layers, each at its place; the others are missing."""

        def spread(name: str, blank: float) -> Any:
            own = getattr(self, name)
            found = np.full((len(self), layers), blank, own.dtype)
            found[:, places] = own
            return found

        return replace(self, **{name: spread(name, blank) for name, blank in _BLANK.items()})

    def followed_by(self, other: _Table) -> _Table:
        """Both, one after the other."""
        return _Table(*(np.concatenate([mine, theirs]) for mine, theirs in zip(_all(self), _all(other), strict=True)))

    def joined(self, starts: NDArray[np.intp]) -> _Table:
        """Stretches from each of these, which begin with 0, to the next as one."""
        ends = np.append(starts[1:], len(self)) - 1
        return _Table(
            self.begins[starts],
            self.begin_times[starts],
            self.ends[ends],
            self.end_times[ends],
            np.fmin.reduceat(self.least, starts),
            np.fmin.reduceat(self.positive, starts),
            np.fmax.reduceat(self.most, starts),
            self.last[ends],
            np.maximum.reduceat(self.odd, starts),
            np.logical_and.reduceat(self.missing, starts),
        )


_BLANK = dict.fromkeys(("least", "positive", "most", "last"), np.nan) | {"odd": _FINITE, "missing": True}


def _all(table: _Table) -> list[Any]:
    return [getattr(table, name) for name in table.__dataclass_fields__]


class Stretching:
    """Numbers stretches of equally many readings, of which only the last may be shorter.

    Whenever there are too many stretches, each two neighbours become one.

    Args:
        most: How many stretches there may be, at least 2.
    """

    def __init__(self, most: int) -> None:
        self._most, self._length, self._count = most, 1, 0  # readings of a stretch, and of all of them

    def numbers(self, before: int, new: int) -> NDArray[np.intp]:
        """The stretch of each row, from 0.

        Args:
            before: Rows that stand for the stretches so far.
            new: Rows behind them, each of a single reading; at least one.
        """
        stretch = np.concatenate([np.arange(before), (self._count + np.arange(new)) // self._length])
        self._count += new
        while stretch[-1] >= self._most:
            self._length *= 2
            stretch = stretch // 2
        return stretch


class Stretches:
    """Readings of layers, taken up as they come, in stretches. What it keeps does not grow with the run.

    Args:
        most: How many stretches there may be, at least 2.
    """

    def __init__(self, most: int) -> None:
        self._stretching = Stretching(most)
        self._table: _Table | None = None
        self._layers: tuple[str, ...] = ()
        self._columns: dict[tuple[str, bool, tuple[str, ...]], Stretched] = {}  # made of what was taken up so far

    @property
    def layers(self) -> tuple[str, ...]:
        """Of all readings, in order of appearance."""
        return self._layers

    def add(self, column: Column) -> None:
        """Take up readings that come after those before; of other layers, the earlier ones are missing."""
        if not len(column):
            return
        new = _Table.of(column)
        names = tuple(dict.fromkeys((*self._layers, *column.layers)))
        if column.layers != names:
            new = new.placed(np.array([names.index(name) for name in column.layers], np.intp), len(names))
        if self._table is not None and self._layers != names:
            self._table = self._table.placed(np.arange(len(self._layers)), len(names))
        self._layers = names
        self._append(new)

    def _append(self, new: _Table) -> None:
        self._columns.clear()
        table = new if self._table is None else self._table.followed_by(new)
        stretch = self._stretching.numbers(len(table) - len(new), len(new))
        self._table = table.joined(np.flatnonzero(np.diff(stretch, prepend=-1)))

    def column(self, key: str, *, log: bool, layers: Sequence[str] | None = None) -> Stretched | None:
        """Of each stretch and layer the value that stands out most: NaN or an infinity, else the finite one that is
        furthest from the layer's level, a median over the last readings of the stretches around. It is the same object
        until more is taken up.

        Args:
            key: What the column is called.
            log: Whether distances are those of logarithms.
            layers: All of its layers in the order that is wanted; by default that of appearance.

        Returns:
            ``None`` where no reading was taken up.
        """
        names = self._layers if layers is None else tuple(layers)
        if self._table is None:
            return None
        place = key, log, names
        if place not in self._columns:
            self._columns[place] = self._made(self._table, *place)
        return self._columns[place]

    def _made(self, table: _Table, key: str, log: bool, names: tuple[str, ...]) -> Stretched:
        low = table.positive if log else table.least
        with np.errstate(invalid="ignore", divide="ignore"):
            high, last = (np.where((values > 0) | (not log), values, np.nan) for values in (table.most, table.last))
            down, level, up = (np.log(values) if log else values for values in (low, last, high))
            hidden = table.least <= 0
            level = levels(level)
            values = np.where(level - down > up - level, low, table.most)
        values = np.where(table.odd == _FINITE, values, _ODD[table.odd])
        order = [self._layers.index(name) for name in names]
        when = table.ends, table.end_times
        found = Column(key, "layers", *when, values[:, order], table.missing[:, order], names)
        return Stretched(**vars(found), begins=table.begins, begin_times=table.begin_times, hidden=hidden[:, order])


def levels(values: Floats) -> Floats:
    """Running medians over the neighbours that are known. Shape ``[n, L]``."""
    n = len(values)
    around = np.full((2 * NEAR + 1, *values.shape), np.nan)
    for place, shift in enumerate(range(-NEAR, NEAR + 1)):
        rows = slice(max(0, -shift), min(n, n - shift))
        if rows.start < rows.stop:
            around[place, rows] = values[rows.start + shift : rows.stop + shift]
    return medians(around.reshape(len(around), -1)).reshape(values.shape)
