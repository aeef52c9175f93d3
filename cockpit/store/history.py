"""All points of one series: chunks of older ones, and rows of those after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from cockpit.store import database
from cockpit.store.attempts import Sight
from cockpit.store.chunks import SKETCHED, decode_points, decode_sketches, unpack
from cockpit.store.columns import thin
from cockpit.store.points import Points, from_rows, joined
from cockpit.store.schema import chunk, packed, payload, point

_ROW = (point.c.id, point.c.step, point.c.time, point.c.value, point.c.flag, point.c.layout)
_OPENED = chunk.join(packed, sa.and_(packed.c.run == chunk.c.run, packed.c.chunk == chunk.c.id))
_DATA = sa.select(chunk.c.id, chunk.c.points, packed.c.data).select_from(_OPENED)
_OUTLINE = (chunk.c.id, chunk.c.oldest, chunk.c.points, chunk.c.first_step, chunk.c.last_step, chunk.c.ordered)
_DENSE = 2  # points of sketches, for each that is wanted, from which on chunks need not be opened
_FIRST, _LAST = -(2**63), 2**63 - 1
_VARIABLES = 500  # in one IN clause; databases bound their number


class Vector(NamedTuple):
    """A point that is more than a number."""

    step: int
    time: float
    layout: int | None
    data: bytes | None


class History:
    """Points of one series, as of the connection's transaction.

    Args:
        connection: Where to look.
        number: The run's.
        series: The series'.
        sight: Which of them are seen.
    """

    def __init__(self, connection: sa.Connection, number: int, series: int, sight: Sight) -> None:
        self._connection, self._number, self._series, self._sight = connection, number, series, sight
        self._mine = (chunk.c.run == number, chunk.c.series == series)

    def points(self, steps: tuple[int, int] | None = None) -> Points:
        """In step order, of each step the newest; within first and last step, if given."""
        return joined([*self._chunks(steps), self._rows(steps)]).in_order()

    def thinned(self, steps: tuple[int, int] | None, max_points: int) -> Points:
        """At most so many of a scalar's points, see :func:`~cockpit.store.columns.thin`.

        Where they are many, a chunk's sketch stands for it, unless it is cut, masked, or has others' steps in between.
        """
        found = self._sketched(steps, max_points) or self.points(steps)
        if len(found) > max_points:
            found = found[thin(found.values, found.flags, max_points)]
        return found

    def last(self, step: int) -> Points:
        """The last point at or before ``step``: one, or none."""
        wanted = [*self._among_rows(), point.c.step <= step]
        newest = (point.c.step.desc(), point.c.id.desc())
        row = self._connection.execute(sa.select(*_ROW).where(*wanted).order_by(*newest).limit(1)).first()
        best = from_rows([] if row is None else [[row]])
        reach = sa.case((chunk.c.last_step < step, chunk.c.last_step), else_=step).label("reach")
        before = sa.select(chunk.c.id, reach).where(
            *self._mine, *self._sight.among_chunks(), chunk.c.first_step <= step
        )
        with self._connection.execute(before.order_by(sa.desc("reach"), chunk.c.id.desc())) as candidates:
            for each in candidates:  # nearly always the first one has it
                if len(best) and each.reach < best.steps[0]:
                    break
                inside = self._decoded(_DATA.where(*self._mine, chunk.c.id == each.id))
                best = joined([best, inside[inside.steps <= step]]).in_order()[-1:]
        return best

    def extent(self) -> tuple[int, int, Points]:
        """How many points there are, every one counted; the lowest step, or 0; and the last point, if there is one."""
        outline = self._connection.execute(sa.select(*_OUTLINE).where(*self._among_chunks(None))).all()
        table = np.array([tuple(row) for row in outline], np.int64).reshape(-1, len(_OUTLINE))
        ids, oldest, points, first, last, _ = table.T
        whole = self._sight.shows_all(oldest, ids, last)
        cut = [self._decoded(_DATA.where(*self._mine, chunk.c.id == each)) for each in ids[~whole].tolist()]
        steps = np.concatenate([first[whole], self._rows(None).steps, *(each.steps for each in cut)])
        count = len(steps) + int((points[whole] - 1).sum())
        return count, int(steps.min()) if len(steps) else 0, self.last(_LAST)

    def stretches(self, most: int) -> list[tuple[int, int]]:
        """First and last steps of stretches, each with about ``most`` points, that leave no step out.

        A stretch has more where chunks overlap, as those of steps in no order do.
        """
        outline = sa.select(chunk.c.first_step, chunk.c.points).where(*self._among_chunks(None))
        rows = sa.select(point.c.step, sa.literal(1)).where(*self._among_rows())
        found = [tuple(row) for query in (outline, rows) for row in self._connection.execute(query)]
        starts, points = np.array(found, np.int64).reshape(-1, 2).T
        order = np.argsort(starts, kind="stable")
        starts, points = starts[order], points[order]
        number = (np.cumsum(points) - points) // most
        cuts = np.unique(starts[1:][number[1:] > number[:-1]])
        cuts = cuts[cuts > starts[0]].tolist() if len(cuts) else []
        return list(zip([_FIRST, *cuts], [*(cut - 1 for cut in cuts), _LAST], strict=True))

    def vectors(self, points: Points) -> list[Vector]:
        """What the points hold, in their order."""
        data: dict[int, bytes | None] = {}
        rows = points.ids[points.chunks == 0].tolist()
        for some in portions(rows):
            query = sa.select(payload.c.point, payload.c.data).where(
                payload.c.run == self._number, payload.c.point.in_(some)
            )
            data.update((row.point, row.data) for row in self._connection.execute(query))
        within = np.unique(points.chunks[points.chunks != 0]).tolist()
        for some in portions(within):
            query = _DATA.add_columns(packed.c.payload).where(*self._mine, chunk.c.id.in_(some))
            for row in self._connection.execute(query):
                ids = decode_points([(row.id, row.points, row.data)]).ids.tolist()
                if row.payload is not None:  # else they were missing before it was known what they are
                    data.update(zip(ids, unpack(row.payload, row.points), strict=True))
        columns = (points.steps.tolist(), points.times.tolist(), points.layouts.tolist(), points.ids.tolist())
        return [
            Vector(step, time, layout or None, data.get(number))
            for step, time, layout, number in zip(*columns, strict=True)
        ]

    def _among_rows(self) -> list[sa.ColumnElement[bool]]:
        # New points are few and at the end: the sum keeps the database from walking the series' index.
        mine = point.c.series + 0 if self._sight.after else point.c.series
        return [point.c.run == self._number, mine == self._series, *self._sight.among_rows()]

    def _rows(self, steps: tuple[int, int] | None) -> Points:
        wanted = self._among_rows()
        if steps is not None:
            wanted.append(point.c.step.between(*steps))
        query = sa.select(*_ROW).where(*wanted).order_by(point.c.step, point.c.id)
        return from_rows(database.blocks(self._connection, query))

    def _chunks(self, steps: tuple[int, int] | None) -> list[Points]:
        found = self._decoded(_DATA.where(*self._among_chunks(steps)).order_by(chunk.c.id))
        if not len(found):
            return []
        return [found if steps is None else found[(found.steps >= steps[0]) & (found.steps <= steps[1])]]

    def _among_chunks(self, steps: tuple[int, int] | None) -> list[sa.ColumnElement[bool]]:
        wanted = [*self._mine, *self._sight.among_chunks()]
        if steps is not None:
            wanted += [chunk.c.first_step <= steps[1], chunk.c.last_step >= steps[0]]
        return wanted

    def _decoded(self, query: sa.Select[Any]) -> Points:
        rows = [(number, points, data) for number, points, data in self._connection.execute(query)]
        if not rows:
            return from_rows([])
        found = decode_points(rows)
        seen = self._sight.shows(found.ids, found.steps)
        return found if seen.all() else found[seen]

    def _sketched(self, steps: tuple[int, int] | None, max_points: int) -> Points | None:
        """Enough points to choose from; ``None`` where chunks must be opened for that."""
        wanted = self._among_chunks(steps)
        found = self._connection.execute(sa.select(*_OUTLINE, chunk.c.sketch).where(*wanted))
        outline = sorted(found, key=lambda row: row.first_step)
        if (SKETCHED - 2) * len(outline) < _DENSE * max_points:
            return None
        ids, oldest, _, first, last, ordered = np.array([tuple(row[:-1]) for row in outline], np.int64).T
        rows = self._rows(steps)
        plain = ordered.astype(bool) & self._sight.shows_all(oldest, ids, last) & ~_overlapping(first, last, rows.steps)
        if steps is not None:
            plain &= (first >= steps[0]) & (last <= steps[1])
        if (SKETCHED - 2) * int(plain.sum()) < _DENSE * max_points:
            return None
        parts = [decode_sketches([outline[at].sketch for at in np.flatnonzero(plain).tolist()]), rows]
        for some in portions(ids[~plain].tolist()):
            opened = self._decoded(_DATA.where(*self._mine, chunk.c.id.in_(some)))
            inside = slice(None) if steps is None else (opened.steps >= steps[0]) & (opened.steps <= steps[1])
            parts.append(opened[inside])
        return joined(parts).in_order()


def _overlapping(first: NDArray[np.int64], last: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of chunks sorted by first step, which have steps of others, or of rows, among their own."""
    among = (first <= rows[-1]) & (last >= rows[0]) if len(rows) else np.zeros(len(first), bool)
    among[1:] |= first[1:] <= np.maximum.accumulate(last)[:-1]
    among[:-1] |= last[:-1] >= first[1:]
    return among


def portions(numbers: Sequence[int]) -> list[Sequence[int]]:
    """Few enough at a time for one query."""
    return [numbers[start : start + _VARIABLES] for start in range(0, len(numbers), _VARIABLES)]
