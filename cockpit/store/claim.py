"""Taking hold of a run's log for writing, and the transactions of the one who holds it."""

from __future__ import annotations

import os
import shlex
import sys
import time
import uuid
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from cockpit.store import database, migration
from cockpit.store import place as places
from cockpit.store.attempts import Attempt, attempts_of
from cockpit.store.batch import Batch
from cockpit.store.database import Database
from cockpit.store.encoder import Encoder
from cockpit.store.schema import (
    SCHEMA_VERSION,
    Header,
    RunExists,
    RunIsLive,
    UnreadableLog,
    attempt,
    document,
    dumps,
    event,
    layout,
    payload,
    piece,
    point,
    run,
    series,
    text,
)
from cockpit.store.upkeep import Remainder, compact, masked, rows_of


class TakenOver(RuntimeError):
    """Another writer holds the run."""


@dataclass(frozen=True)
class Claim:
    """A run's log, held by this process.

    Args:
        database: Where it is.
        number: The run's number there.
        token: What is written there as its owner.
    """

    database: Database
    number: int
    token: str


class Log:
    """Transactions on a log that is held.

    Args:
        claim: The log.
    """

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._connection: sa.Connection | None = None

    def commit(self, batch: Batch, dropped: int) -> Remainder | None:
        """Writes a batch and a heartbeat in one transaction, in which points that have become many become chunks.

        Returns:
            What is left of the series, where the batch shows that its writer goes on at an earlier step than was known.

        Raises:
            OSError: If the log is no longer there.
            TakenOver: If another writer holds the run by now.
            Exception: The driver's own, if the disk is full, the file locked, or the server lost.
        """
        connection, number = self._connected(), self._claim.number
        with connection.begin():
            self._update(
                connection, cursor=batch.cursor, dropped=dropped, elapsed=batch.elapsed, last_step=batch.last_step
            )
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

    def finish(self, state: str, cursor: int, dropped: int) -> None:
        """Writes how the run ended, and leaves the log as it is to be kept.

        Raises:
            Exception: As :meth:`commit`.
        """
        connection = self._connected()
        with connection.begin():
            self._update(connection, state=state, cursor=cursor, dropped=dropped)
        self._claim.database.fold(connection)
        self.disconnect()

    def disconnect(self) -> None:
        """Lets go of the connection; the next transaction opens another."""
        if self._connection is not None:
            self._connection.invalidate()  # without a last word to a file that may be gone
            self._connection.close()
            self._connection = None

    def _connected(self) -> sa.Connection:
        place = self._claim.database
        place.require_held()
        if self._connection is None:
            self._connection = place.writing_engine().connect()
            place.tune(self._connection)
        return self._connection

    def _update(self, connection: sa.Connection, **values: Any) -> None:
        mine = sa.update(run).where(run.c.id == self._claim.number, run.c.owner == self._claim.token)
        if connection.execute(mine.values(heartbeat=self._claim.database.clock(), **values)).rowcount != 1:
            raise TakenOver(f"another process writes {self._claim.database.place} now: this one has stopped logging")


def claim(place: Database, header: Header, *, resume: bool | int, rank: int) -> tuple[Claim, Encoder]:
    """Takes hold of a run's log, made where it does not exist.

    Args:
        place: Where it is to be.
        header: Description of the run.
        resume: Whether the run goes on if there was one, or at which step it does.
        rank: Number of the process.

    Returns:
        The hold, and an encoder that continues where the log ends.

    Raises:
        RunExists: If the run is over and ``resume`` is not set.
        RunIsLive: If a living process writes it.
        UnreadableLog: If what stands there is no log, or a newer version's.
        OSError: If the place cannot be written.
    """
    caveat = place.prepare()
    token = uuid.uuid4().hex
    refusals: tuple[type[Exception], ...] = (sa.exc.DBAPIError, *place.refusals)
    try:
        with place.writing_engine().connect() as connection, connection.begin():
            number, encoder = _take_hold(connection, place, header, token, resume, rank)
    except refusals as error:
        if place.is_foreign(error):
            raise UnreadableLog(f"{place.place} stands in the way: {place.reason(error)}") from error
        words = f"the log {place.place} cannot be written: {place.reason(error)}. Choose another place."
        raise OSError(words) from error
    place.hold()
    if caveat:
        encoder.event(None, encoder.elapsed, "warning", caveat, "")
    return Claim(place, number, token), encoder


def _take_hold(
    connection: sa.Connection, place: Database, header: Header, token: str, resume: bool | int, rank: int
) -> tuple[int, Encoder]:
    """Number of the run, and what goes on where it ends."""
    mine = {
        "name": place.name or text(header.name),
        "rank": rank,
        "owner": token,
        "host": places.host(),
        "pid": os.getpid(),
        "process": places.process_start(os.getpid()),
        "state": "running",
        "heartbeat": place.clock(),
        "tags": dumps(header.tags),
        "header": dumps(header.to_json()),
    }
    began = Attempt(1, None, 0, time.time(), places.host(), os.getpid(), text(shlex.join(sys.argv)))
    if place.begin_run(connection):
        zero = {"elapsed": 0.0, "cursor": 0, "dropped": 0}
        begun = sa.insert(run).values(schema_version=SCHEMA_VERSION, created=header.created, **zero, **mine)
        connection.execute(begun)
        number, _ = place.find(connection)
        database.insert(connection, attempt, number, [tuple(vars(began).values())])
        return number, Encoder(header.instruments, attempt=began)
    number, version = place.find(connection)
    place.check_version(version)
    state = _refuse_unless_over(connection, place, number, resume)
    if version < SCHEMA_VERSION:
        migration.migrate(connection)
    row = connection.execute(sa.select(run).where(run.c.id == number)).one()
    # What is added may be what older versions cannot read.
    going_on = sa.update(run).where(run.c.id == number)
    connection.execute(going_on.values(**mine, cursor=row.cursor + 1, schema_version=SCHEMA_VERSION))
    return number, _go_on(connection, header, row, began, resume, f"resumed; before that, the run was {state}")


def _refuse_unless_over(connection: sa.Connection, place: Database, number: int, resume: bool | int) -> str:
    """How the run that is there ended; raises if it goes on, or is not to."""
    known = (run.c.pid, run.c.host, run.c.process, run.c.heartbeat, run.c.state, place.clock().label("now"))
    row = connection.execute(sa.select(*known).where(run.c.id == number)).one()
    state = database.state_of(row)
    if state == "running":
        who = f"process {row.pid} on {row.host.split('/')[0]}"
        who = "this process" if row.pid == os.getpid() and row.host == places.host() else who
        raise RunIsLive(f"{place.title} is being written by {who}: close that run first, or give this one another name")
    if resume is False:
        words = f"{place.title} holds a run ({state}): give this one another name, or continue it with resume=True"
        raise RunExists(words)
    return state


def _go_on(
    connection: sa.Connection, header: Header, row: Any, began: Attempt, resume: bool | int, words: str
) -> Encoder:
    """A further attempt at the run, and an encoder that continues where the run ends, or at the step ``resume``."""
    number, last_step = row.id, row.last_step
    earlier = attempts_of(connection, number)
    if resume is not True:
        first = int(resume)
        words += f"; it goes on at step {first}"
    else:
        first = 0 if last_step is None else last_step + 1
    began = replace(began, number=len(earlier) + 1, first_step=first, cursor=row.cursor)
    database.insert(connection, attempt, number, [tuple(vars(began).values())])
    rest = rows_of(connection, number)
    if last_step is not None and first <= last_step:
        rest, last_step = masked(connection, number)
    layouts = {
        bytes(entry.digest): entry.id
        for entry in connection.execute(sa.select(layout.c.digest, layout.c.id).where(layout.c.run == number))
    }
    last_event = connection.execute(sa.select(sa.func.max(event.c.time)).where(event.c.run == number)).scalar()
    elapsed = max(row.elapsed, last_event or 0.0)  # what comes now is later than all that there is
    encoder = Encoder(header.instruments, rest, layouts, row.cursor + 1, last_step, elapsed, began)
    encoder.event(last_step, elapsed, "info", words, "")
    return encoder
