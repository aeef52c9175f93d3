"""Taking hold of a run's log for writing."""

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
from cockpit.store.database import Database
from cockpit.store.encoder import Encoder
from cockpit.store.header import Header
from cockpit.store.log import Log
from cockpit.store.plain import dumps, text
from cockpit.store.schema import SCHEMA_VERSION, RunExists, RunIsLive, UnreadableLog, attempt, event, layout, run
from cockpit.store.upkeep import masked, rows_of


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

    def log(self) -> Log:
        """For the thread that writes."""
        return self.database.log(self.number, self.token)


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
    place.prepare()
    token = uuid.uuid4().hex
    refusals: tuple[type[Exception], ...] = (sa.exc.DBAPIError, *place.refusals)
    try:
        with place.writing_engine().connect() as connection, connection.begin():
            number, encoder = _take_hold(connection, place, header, token, resume, rank)
    except (RunExists, RunIsLive):
        raise
    except refusals as error:
        if place.is_foreign(error):
            raise UnreadableLog(f"{place.place} stands in the way: {place.reason(error)}") from error
        words = f"the log {place.place} cannot be written: {place.reason(error)}. Choose another place."
        raise OSError(words) from error
    place.hold()
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
