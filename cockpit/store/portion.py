"""What a log has gained since an earlier look, in the order in which it was written: for whoever passes it on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import sqlalchemy as sa

from cockpit.store import database
from cockpit.store.attempts import Sight
from cockpit.store.chunks import decode_points
from cockpit.store.columns import Column
from cockpit.store.history import portions
from cockpit.store.points import Points, from_rows, joined
from cockpit.store.schema import chunk, packed, point

if TYPE_CHECKING:
    from cockpit.store.entries import Event

_ROW = (point.c.series, point.c.id, point.c.step, point.c.time, point.c.value, point.c.flag, point.c.layout)
_PACKED = chunk.join(packed, sa.and_(packed.c.run == chunk.c.run, packed.c.chunk == chunk.c.id))
_DATA = sa.select(chunk.c.series, chunk.c.id, chunk.c.points, packed.c.data).select_from(_PACKED)


@dataclass(frozen=True)
class Portion:
    """Points and events numbered above one cursor and up to another, as one moment saw them.

    Args:
        cursor: The other one: what comes next has higher numbers.
        columns: Of each series that has such points these, in the series' order of appearance.
        events: In the order in which they were logged.
        overtaken: As of then, points numbered up to the first of a pair are not seen at steps from the second on.
        more: Whether the log already held more.
    """

    cursor: int
    columns: tuple[Column, ...]
    events: tuple[Event, ...]
    overtaken: tuple[tuple[int, int], ...]
    more: bool


def points_of_all(
    connection: sa.Connection, number: int, sight: Sight, changed: Sequence[int]
) -> dict[int, Points]:  # fmt: skip
    """Of each series that has points in sight these, in step order. One look for all: mostly they are few.

    Args:
        connection: Where to look.
        number: The run's.
        sight: Which points are seen, up to a number.
        changed: Series that may have some.
    """
    parts: dict[int, list[Points]] = {}
    for some in portions(changed):
        for series, points in _in_chunks(connection, number, sight, some):
            parts.setdefault(series, []).append(points)
    for series, points in _in_rows(connection, number, sight):
        parts.setdefault(series, []).append(points)
    found = {series: joined(some).in_order() for series, some in parts.items()}
    return {series: points for series, points in found.items() if len(points)}


def _in_rows(connection: sa.Connection, number: int, sight: Sight) -> Iterator[tuple[int, Points]]:
    wanted = [point.c.run == number, point.c.id.between(sight.after + 1, sight.until), *sight.among_rows()]
    query = sa.select(*_ROW).where(*wanted).order_by(point.c.series, point.c.step, point.c.id)
    rows = (row for block in database.blocks(connection, query) for row in block)
    for series, mine in groupby(rows, itemgetter(0)):
        yield series, from_rows([[row[1:] for row in mine]])


def _in_chunks(
    connection: sa.Connection, number: int, sight: Sight, some: Sequence[int]
) -> Iterator[tuple[int, Points]]:
    wanted = [chunk.c.run == number, chunk.c.series.in_(some), *sight.among_chunks()]
    for row in connection.execute(_DATA.where(*wanted).order_by(chunk.c.series, chunk.c.id)):
        points = decode_points([(row.id, row.points, row.data)])
        yield row.series, points[sight.shows(points.ids, points.steps)]
