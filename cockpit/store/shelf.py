"""The runs of a database on a server."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from cockpit.store import remarks
from cockpit.store.address import Address
from cockpit.store.catalog import PROCESS, RunSummary, summary_of
from cockpit.store.database import Pulse, Snapshot, replace, state_of
from cockpit.store.postgres import ANNOTATIONS, Connections, Rows, clock, is_absent, said
from cockpit.store.reader import Reader
from cockpit.store.schema import RunIsLive, UnreadableLog, document, metadata, run

_UNREAD = ("heartbeat", "header")  # columns that tell a list of runs nothing new, or too much
_ANNOTATED = sa.and_(document.c.run == run.c.id, document.c.name == ANNOTATIONS)


class Shelf:
    """What :class:`~cockpit.store.catalog.Directory` is to files.

    Args:
        address: The database.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connections = Connections(address)
        self._known: dict[int, tuple[tuple[Any, ...], RunSummary]] = {}
        self._pulses: dict[int, Pulse] = {}

    def runs(self) -> list[RunSummary]:
        """All runs, the newest first.

        Raises:
            ConnectionError: If the server cannot be reached.
        """
        columns = [column for column in run.c if column.name not in _UNREAD]
        query = sa.select(*columns, document.c.revision, run.c.heartbeat, clock().label("now"))
        query = query.select_from(run.outerjoin(document, _ANNOTATED)).where(run.c.rank == 0)
        found: list[RunSummary] = []
        with self._reached() as connection:
            others = self._others(connection)
            rows = connection.execute(query.order_by(run.c.created.desc(), run.c.name)).all()
            for row in rows:
                summary = self._summary(connection, row, (state_of(row, self._pulse(row)), *row[:-2]))
                found.append(summary.joined(others.get(row.name, {})))
        return found

    def summary(self, name: str) -> RunSummary:
        """One line of :meth:`runs`, as the run is now.

        Raises:
            KeyError: As :meth:`open`.
            ConnectionError: As :meth:`runs`.
        """
        found = {run.name: run for run in self.runs()}
        if name not in found:
            raise KeyError(f"there is no run {name!r} in {self._address}")
        return found[name]

    def open(self, name: str) -> Reader:
        """A run by its name in :meth:`runs`; one of its processes by that and ``/rank1``.

        Raises:
            KeyError: If there is no such run.
            UnreadableLog: If it cannot be read, in words.
            ConnectionError: As :meth:`runs`.
        """
        of_process = PROCESS.fullmatch(name)
        if of_process and name not in self._names():
            return Reader(self._log(of_process[1]), name).rank(int(of_process[2]))
        return Reader(self._log(name), name)

    def annotate(self, name: str, *, tags: Iterable[str] | None = None, notes: str | None = None) -> None:
        """Gives a run other tags or notes; its log stays as it is.

        Raises:
            KeyError: As :meth:`open`.
            TypeError: If a tag is no text.
            ConnectionError: As :meth:`runs`.
        """
        log = self._log(name)
        with self._reached(log.writing_engine()) as connection:
            number, _ = log.find(connection)
            of_run = sa.select(document.c.revision).where(document.c.run == number, document.c.name == ANNOTATIONS)
            revision = connection.execute(of_run).scalar() or 0
            changed = remarks.changed(log.annotations(Snapshot(connection, number)), tags, notes)
            row = (ANNOTATIONS, revision + 1, remarks.stored(changed))
            replace(connection, document, number, {ANNOTATIONS: row})

    def delete(self, name: str) -> None:
        """Deletes all that is stored of a run.

        Raises:
            KeyError: As :meth:`open`.
            RunIsLive: If it is being written.
            ConnectionError: As :meth:`runs`.
        """
        log = self._log(name)
        with self._reached(log.writing_engine()) as connection:
            query = sa.select(run, clock().label("now")).where(run.c.name == log.name).with_for_update()
            rows = connection.execute(query).all()
            if any(state_of(row) == "running" for row in rows):
                raise RunIsLive(f"{name!r} is being written: it can be deleted when it is over")
            for table in metadata.sorted_tables:
                number = table.c.id if table is run else table.c.run
                connection.execute(sa.delete(table).where(number.in_([row.id for row in rows])))

    def _others(self, connection: sa.Connection) -> dict[str, dict[int, str]]:
        """States of other processes than the first, by run and rank."""
        query = sa.select(run, clock().label("now")).where(run.c.rank > 0)
        found: dict[str, dict[int, str]] = {}
        for row in connection.execute(query):
            found.setdefault(row.name, {})[row.rank] = state_of(row, self._pulse(row))
        return found

    def _summary(self, connection: sa.Connection, row: Any, stamp: tuple[Any, ...]) -> RunSummary:
        """What is known, unless something has changed."""
        known = self._known.get(row.id)
        if known is None or known[0] != stamp:
            known = self._known[row.id] = stamp, self._fresh_summary(connection, row)
        return known[1]

    def _fresh_summary(self, connection: sa.Connection, row: Any) -> RunSummary:
        log = Rows(self._address.with_name(row.name))
        try:
            log.check_version(row.schema_version)
            return summary_of(log, Snapshot(connection, row.id), row.name, self._pulse(row))
        except (UnreadableLog, ValueError, TypeError, AttributeError) as error:  # a newer version's, or nonsense
            return RunSummary(row.name, "unreadable", row.created, reason=str(error))

    def _pulse(self, row: Any) -> Pulse:
        return self._pulses.setdefault(row.id, Pulse())

    def _names(self) -> list[str]:
        names: list[str] = []
        with self._reached() as connection:
            names += connection.execute(sa.select(run.c.name).where(run.c.rank == 0)).scalars()
        return names

    def _log(self, name: str) -> Rows:
        names = self._names()
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise KeyError(f"there is no run {name!r} in {self._address}{hint}")
        return Rows(self._address.with_name(name), connections=self._connections)

    @contextmanager
    def _reached(self, engine: sa.Engine | None = None) -> Iterator[sa.Connection]:
        """A transaction. Where there has never been a run, what asks for some is left at that."""
        try:
            with (engine or self._connections.engine).begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            if not is_absent(error):
                raise ConnectionError(f"{self._address} cannot be reached: {said(error)}") from error
