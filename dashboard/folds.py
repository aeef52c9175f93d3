"""What is made of series that are too long to be held: portion by portion, and then of what is added."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.columns import rows_of
from cockpit.store import Column, Reader, Series

PORTION = 2048  # readings that are held at a time, about
MOST_KEPT = 60


class Fold(Protocol):
    """Takes up readings in the order of their steps."""

    def add(self, columns: Mapping[str, Column]) -> None:
        """Take up what comes after all before, by key; of some keys there may be nothing."""


class OfColumn(Protocol):
    """Takes up the readings of one series."""

    def add(self, column: Column) -> None:
        """Take up what comes after all before."""


C = TypeVar("C", bound=OfColumn)


class Of(Generic[C]):
    """A fold of a single column, as it is read or as it is made of several.

    Args:
        made: Takes it up.
        make: Makes it.
    """

    def __init__(self, made: C, make: Callable[[Mapping[str, Column]], Column]):
        self.made, self._make = made, make

    def add(self, columns: Mapping[str, Column]) -> None:
        """Take up what is made of them."""
        self.made.add(self._make(columns))


F = TypeVar("F", bound=Fold)


@dataclass
class _Kept:
    """A fold as of a cursor, and the steps of each series that it took up last."""

    cursor: int
    points: list[int]  # of each series
    fold: Any
    recent: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, columns: Mapping[str, Column]) -> bool:
        """Take up what is new; ``False`` where some of it lies between earlier readings: all is to be done anew.

        What was committed while the last portion was read comes twice.
        """
        fresh = {}
        for key, column in columns.items():
            recent = self.recent.get(key, np.zeros(0, np.int64))
            late = column.steps <= recent[-1] if len(recent) else np.zeros(len(column), bool)
            if not np.isin(column.steps[late], recent).all():
                return False
            fresh[key] = rows_of(column, ~late) if late.any() else column
        self.fold.add(fresh)
        self.recent |= {key: column.steps for key, column in fresh.items() if len(column)}
        return True


class Folds:
    """The folds of one run; whoever asks sees to it that only one thread does.

    Args:
        reader: The run's log.
    """

    def __init__(self, reader: Reader):
        self._reader = reader
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    def get(self, name: Hashable, series: Sequence[Series], cursor: int, begin: Callable[[], F]) -> F:
        """The fold called ``name`` as of ``cursor``.

        Args:
            name: Of series and fold together.
            series: What it is made of; at least one.
            cursor: As of when.
            begin: Makes it, still empty.
        """
        kept, points = self._kept.pop(name, None), [each.points for each in series]
        if kept is not None and kept.points != points:
            new = {each.key: self._reader.column(each.key, each.kind, since=kept.cursor) for each in series}
            kept = kept if kept.add(new) else None
        if kept is None:
            kept = _Kept(cursor, points, begin())
            for steps in _portions(series):
                kept.add({each.key: self._reader.column(each.key, each.kind, steps=steps) for each in series})
        kept.cursor, kept.points = cursor, points
        self._kept[name] = kept
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        fold: F = kept.fold
        return fold


def _portions(series: Sequence[Series]) -> Iterator[tuple[int, int]]:
    """First and last steps of stretches that hold about as many readings each."""
    first, last = min(each.first_step for each in series), max(each.last_step for each in series)
    number = -(-max(each.points for each in series) // PORTION)
    length = -(-(last - first + 1) // number)
    for begin in range(first, last + 1, length):
        yield begin, begin + length - 1
