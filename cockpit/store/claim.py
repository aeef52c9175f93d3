"""Taking hold of a run's file for writing, and the transactions of the one who holds it."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
import uuid
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cockpit.store import database, migration, place
from cockpit.store.attempts import Attempt, attempts_of
from cockpit.store.batch import Batch
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

NUMBER = 1
"""Of the one run that a file holds."""


class TakenOver(RuntimeError):
    """Another writer holds the run."""


@dataclass(frozen=True)
class Claim:
    """A run's file, held by this process.

    Args:
        path: The file.
        number: The run's number in it.
        token: What the file names as its owner.
        shared_memory: Whether its file system allows write-ahead logging.
        identity: Device and number of the file: of its name there may later be another.
    """

    path: Path
    number: int
    token: str
    shared_memory: bool
    identity: tuple[int, int]


class Log:
    """Transactions on a file that is held.

    Args:
        claim: The file.
    """

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._connection: sa.Connection | None = None

    def commit(self, batch: Batch, dropped: int) -> Remainder | None:
        """Writes a batch and a heartbeat in one transaction, in which points that have become many become chunks.

        Returns:
            What is left of the series, where the batch shows that its writer goes on at an earlier step than was known.

        Raises:
            OSError: If the file is no longer there.
            TakenOver: If another writer holds the run by now.
            sqlalchemy.exc.OperationalError: If the disk is full or the file locked.
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
        """Writes how the run ended and leaves a single file.

        Raises:
            OSError, TakenOver, sqlalchemy.exc.OperationalError: As :meth:`commit`.
        """
        connection = self._connected()
        with connection.begin():
            self._update(connection, state=state, cursor=cursor, dropped=dropped)
        database.fold(connection)
        self.disconnect()

    def disconnect(self) -> None:
        """Lets go of the connection; the next transaction opens another."""
        if self._connection is not None:
            self._connection.invalidate()  # without a last word to a file that may be gone
            self._connection.close()
            self._connection = None

    def _connected(self) -> sa.Connection:
        # An open file stays writable after its directory has gone: nothing but looking tells.
        if _identity(self._claim.path) != self._claim.identity:
            raise FileNotFoundError(f"{self._claim.path} has been replaced by another file")
        if self._connection is None:
            self._connection = database.writing_engine(self._claim.path).connect()
            database.set_journal(self._connection, shared_memory=self._claim.shared_memory)
        return self._connection

    def _update(self, connection: sa.Connection, **values: Any) -> None:
        mine = sa.update(run).where(run.c.id == self._claim.number, run.c.owner == self._claim.token)
        if connection.execute(mine.values(heartbeat=time.time(), **values)).rowcount != 1:
            raise TakenOver(f"another process writes {self._claim.path} now: this one has stopped logging")


def claim(path: Path, header: Header, *, resume: bool | int, rank: int) -> tuple[Claim, Encoder]:
    """Takes hold of a run's file, made where it does not exist.

    Args:
        path: The file.
        header: Description of the run.
        resume: Whether the run goes on if there was one, or at which step it does.
        rank: Number of the process.

    Returns:
        The hold, and an encoder that continues where the file ends.

    Raises:
        RunExists: If the run is over and ``resume`` is not set.
        RunIsLive: If a living process writes it.
        UnreadableLog: If the file is no log, or a newer version's.
        OSError: If the place cannot be written.
    """
    _make_directory(path.parent)
    filesystem = place.network_filesystem(path.parent.resolve(), place.mounts_text())
    slow = (
        f"{path.parent} is on a network file system ({filesystem}): the log is written with a rollback journal instead "
        "of write-ahead logging. Writing and live reading are slower; choose a local place if you can."
    )
    if filesystem is not None:
        warnings.warn(slow, RuntimeWarning, stacklevel=3)
    token = uuid.uuid4().hex
    try:
        with database.writing_engine(path).connect() as connection, connection.begin():
            encoder = _take_hold(connection, path, header, token, resume, rank)
    except sa.exc.OperationalError as error:
        words = f"the log {path} cannot be written: {database.reason(path, error)}. Choose another place."
        raise OSError(words) from error
    except sa.exc.DatabaseError as error:
        raise UnreadableLog(f"{path} stands in the way: {database.reason(path, error)}") from error
    if filesystem is not None:
        encoder.event(None, encoder.elapsed, "warning", slow, "")
    return Claim(path, NUMBER, token, filesystem is None, _identity(path)), encoder


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(f"{directory} is a file; a run needs a directory. Choose another name.") from error
    except OSError as error:
        raise OSError(
            f"the run's directory {directory} cannot be made: {error.strerror}. Choose another place."
        ) from error


def _take_hold(
    connection: sa.Connection, path: Path, header: Header, token: str, resume: bool | int, rank: int
) -> Encoder:
    mine = {
        "name": text(header.name),
        "rank": rank,
        "owner": token,
        "host": place.host(),
        "pid": os.getpid(),
        "process": place.process_start(os.getpid()),
        "state": "running",
        "heartbeat": time.time(),
        "tags": json.dumps(header.tags),
        "header": dumps(header.to_json()),
    }
    began = Attempt(1, None, 0, time.time(), place.host(), os.getpid(), text(shlex.join(sys.argv)))
    if database.begin_run(connection):
        zero = {"elapsed": 0.0, "cursor": 0, "dropped": 0}
        begun = sa.insert(run).values(id=NUMBER, schema_version=SCHEMA_VERSION, created=header.created, **zero, **mine)
        connection.execute(begun)
        database.insert(connection, attempt, NUMBER, [tuple(vars(began).values())])
        return Encoder(header.instruments, attempt=began)
    version = database.check_version(connection, path)
    state = _refuse_unless_over(connection, path, resume)
    if version < SCHEMA_VERSION:
        migration.migrate(connection)
    row = connection.execute(sa.select(run)).one()
    # What is added may be what older versions cannot read.
    connection.execute(sa.update(run).values(**mine, cursor=row.cursor + 1, schema_version=SCHEMA_VERSION))
    return _go_on(connection, header, row, began, resume, f"resumed; before that, the run was {state}")


def _refuse_unless_over(connection: sa.Connection, path: Path, resume: bool | int) -> str:
    """How the run that is there ended; raises if it goes on, or is not to."""
    row = connection.execute(sa.select(run.c.pid, run.c.host, run.c.process, run.c.heartbeat, run.c.state)).one()
    state = database.state_of(row)
    if state == "running":
        who = f"process {row.pid} on {row.host.split('/')[0]}"
        who = "this process" if row.pid == os.getpid() and row.host == place.host() else who
        raise RunIsLive(f"{path.parent} is being written by {who}: close that run first, or give this one another name")
    if resume is False:
        words = f"{path.parent} holds a run ({state}): give this one another name, or continue it with resume=True"
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
    encoder = Encoder(header.instruments, rest, layouts, row.cursor + 1, last_step, row.elapsed, began)
    encoder.event(last_step, row.elapsed, "info", words, "")
    return encoder


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
