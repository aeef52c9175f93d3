"""Batches as transactions of a database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from cockpit.store import database
from cockpit.store.batch import Batch
from cockpit.store.database import Database
from cockpit.store.log import Log, TakenOver
from cockpit.store.schema import attempt, document, event, layout, payload, piece, point, run, series
from cockpit.store.upkeep import Remainder, compact, masked


class Transactions(Log):
    """Transactions on a log that is held.

    Args:
        place: The log.
        number: The run's number there.
        token: What is written there as its owner.
    """

    def __init__(self, place: Database, number: int, token: str) -> None:
        self._place, self._number, self._token = place, number, token
        self._connection: sa.Connection | None = None

    def commit(self, batch: Batch, dropped: int) -> Remainder | None:
        """One transaction, in which points that have become many become chunks."""
        connection = self._connected()
        with connection.begin():
            self._update(connection, dropped=dropped, **of_run(batch))
            return apply(connection, self._number, batch)

    def finish(self, state: str, cursor: int, dropped: int) -> None:
        """Makes the log one file, where it is a file."""
        connection = self._connected()
        with connection.begin():
            self._update(connection, state=state, cursor=cursor, dropped=dropped)
        self._place.fold(connection)
        self.disconnect()

    def disconnect(self) -> None:
        """Lets go of the connection."""
        if self._connection is not None:
            self._connection.invalidate()  # without a last word to a file that may be gone
            self._connection.close()
            self._connection = None

    def _connected(self) -> sa.Connection:
        self._place.require_held()
        if self._connection is None:
            self._connection = self._place.writing_engine().connect()
            self._place.tune(self._connection)
        return self._connection

    def _update(self, connection: sa.Connection, **values: Any) -> None:
        mine = sa.update(run).where(run.c.id == self._number, run.c.owner == self._token)
        if connection.execute(mine.values(heartbeat=self._place.clock(), **values)).rowcount != 1:
            raise TakenOver(f"another process writes {self._place.place} now: this one has stopped logging")


def of_run(batch: Batch) -> dict[str, Any]:
    """What a batch changes in the run's own row."""
    return {"cursor": batch.cursor, "elapsed": batch.elapsed, "last_step": batch.last_step}


def apply(connection: sa.Connection, number: int, batch: Batch) -> Remainder | None:
    """Writes the rows of a batch, within the transaction that is open; the run's own row is left to the caller.

    Returns:
        As :meth:`~cockpit.store.log.Log.commit`.
    """
    database.replace(connection, series, number, batch.series)
    database.replace(connection, document, number, batch.documents)
    database.insert(connection, layout, number, batch.layouts)
    database.insert(connection, point, number, batch.points)
    database.insert(connection, payload, number, batch.payloads)
    database.insert(connection, event, number, batch.events)
    for name in [name for name, place, _ in batch.pieces if place == 0]:
        connection.execute(sa.delete(piece).where(piece.c.run == number, piece.c.name == name))
    database.insert(connection, piece, number, batch.pieces)
    for long, count in batch.long:
        compact(connection, number, long, count)
    if batch.attempt is not None:
        row = tuple(vars(batch.attempt).values())
        database.replace(connection, attempt, number, {batch.attempt.number: row})
        if batch.attempt.number > 1:
            return masked(connection, number)
    return None
