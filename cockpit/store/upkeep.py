"""What the writer does to a log beside adding to it, within the same transactions: chunks, and sums after a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa

from cockpit.store import database
from cockpit.store.attempts import attempts_of, sight
from cockpit.store.batch import SeriesRow
from cockpit.store.chunks import LONGEST, VECTORS, encode_points, encode_sketch, pack
from cockpit.store.history import History
from cockpit.store.points import Points, from_rows
from cockpit.store.schema import FINITE, MISSING, chunk, packed, payload, point, run, series

_BULK = 1 << 21  # bytes of payloads, compressed one by one, that a chunk takes

_ROW = (point.c.id, point.c.step, point.c.time, point.c.value, point.c.flag, point.c.layout)


class Remainder(NamedTuple):
    """What is seen of a run's series, and the highest step of that."""

    rows: list[SeriesRow]
    last_step: int | None


def compact(connection: sa.Connection, number: int, row: SeriesRow, count: int) -> None:
    """Makes chunks of the ``count`` points of a series that have the lowest steps among its rows."""
    while count > 0 and (
        taken := _make_chunk(connection, number, row, min(count, VECTORS if row.vectors else LONGEST))
    ):
        count -= taken


def _make_chunk(connection: sa.Connection, number: int, row: SeriesRow, most: int) -> int:
    """Makes one chunk; returns of how many points."""
    mine = (point.c.run == number, point.c.series == row.id)
    lowest = sa.select(*_ROW).where(*mine).order_by(point.c.step, point.c.id).limit(most)
    rows = connection.execute(lowest).all()
    payloads = None
    if row.vectors:
        query = sa.select(payload.c.point, payload.c.data).where(
            payload.c.run == number, payload.c.point.in_([each.id for each in rows])
        )
        data: dict[int, bytes] = {each.point: each.data for each in connection.execute(query)}
        rows = rows[: _fitting([len(data.get(each.id, b"")) for each in rows])]
        payloads = pack([data.get(each.id) for each in rows], counts=bool(row.histogram))
        connection.execute(
            sa.delete(payload).where(payload.c.run == number, payload.c.point.in_([each.id for each in rows]))
        )
    if not rows:
        return 0
    add_chunks(connection, number, [(row, from_rows([rows]), payloads)])
    step, last = rows[-1].step, rows[-1].id
    up_to = (point.c.step <= step, sa.or_(point.c.step < step, point.c.id + 0 <= last))
    connection.execute(sa.delete(point).where(*mine, *up_to))
    return len(rows)


def add_chunks(
    connection: sa.Connection, number: int, chunks: Sequence[tuple[SeriesRow, Points, bytes | None]]
) -> None:
    """Adds chunks to the log: of each the series, its points in step order, and their packed payloads, if they have."""
    outlines, contents = [], []
    for row, points, payloads in chunks:
        summary = _summary(points)
        outlines.append((row.id, *summary, None if row.vectors else encode_sketch(points)))
        contents.append((summary[0], encode_points(points), payloads))
    database.insert(connection, chunk, number, outlines)
    database.insert(connection, packed, number, contents)


def _fitting(sizes: list[int]) -> int:
    """How many of the payloads a chunk takes: at least one."""
    return max(1, int(np.searchsorted(np.cumsum(sizes), _BULK, side="right")))


def _summary(points: Points) -> tuple[int | float | bool | None, ...]:
    """A chunk's columns between its series and its sketch. The points are in step order."""
    finite = points.values[(points.flags == FINITE) & np.isfinite(points.values)]
    value = float(points.values[-1])
    missing = int((points.flags == MISSING).sum())
    return (
        int(points.ids.max()),
        int(points.ids.min()),
        len(points),
        int(points.steps[0]),
        int(points.steps[-1]),
        bool((points.steps[1:] > points.steps[:-1]).all()),
        float(finite.min()) if len(finite) else None,
        float(finite.max()) if len(finite) else None,
        value if np.isfinite(value) else None,
        int(points.flags[-1]),
        int((points.flags != FINITE).sum()) - missing,
        missing,
    )


def rows_of(connection: sa.Connection, number: int) -> list[SeriesRow]:
    """All series of a run."""
    query = sa.select(*series.c[1:]).where(series.c.run == number).order_by(series.c.id)
    return [SeriesRow(**row._mapping) for row in connection.execute(query)]


def masked(connection: sa.Connection, number: int) -> Remainder:
    """Counts again what is seen of each series, after an attempt has masked some of its points; in the log, too."""
    rows = rows_of(connection, number)
    seen = sight(attempts_of(connection, number))
    lowest = min(first for _, first in seen.overtaken)
    for row in rows:
        if row.last_step >= lowest:
            _recount(row, History(connection, number, row.id, seen))
    database.replace(connection, series, number, {row.id: tuple(vars(row).values()) for row in rows})
    last_step = max((row.last_step for row in rows if row.points), default=None)
    connection.execute(sa.update(run).where(run.c.id == number).values(last_step=last_step))
    return Remainder(rows, last_step)


def _recount(row: SeriesRow, history: History) -> None:
    row.points, row.first_step, last = history.extent()
    row.last_step, row.last_value, row.last_flag = row.first_step, None, MISSING
    if len(last):
        value = float(last.values[0])
        row.last_step, row.last_flag = int(last.steps[0]), int(last.flags[0])
        row.last_value = value if np.isfinite(value) else None
