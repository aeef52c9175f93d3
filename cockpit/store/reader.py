"""The reading side of one run's log, safe beside a live writer and from many threads."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from cockpit.store.address import Place
from cockpit.store.arrays import Array
from cockpit.store.attempts import Attempt, attempts_of, sight
from cockpit.store.columns import Column
from cockpit.store.database import Database, Pulse, joint, state_of
from cockpit.store.databases import beside, is_run, log_at
from cockpit.store.entries import Event as Event
from cockpit.store.entries import Series as Series
from cockpit.store.entries import no_such
from cockpit.store.header import Header, size_of
from cockpit.store.look import Look, latest_values
from cockpit.store.plain import loads
from cockpit.store.portion import Portion
from cockpit.store.remarks import Annotations
from cockpit.store.schema import UnreadableLog, document, event, kind_of, piece, run, series


class Reader:
    """One run, read only. Each call is one short transaction on a connection of its own.

    Of a run that several processes write, points, events and documents are those of the first: what it says of the
    parameters holds for all. The others are asked by :meth:`rank`; the state is that of all.

    Args:
        path: The run's directory, or the log of one of its processes in it; or a run's address in a database.
        name: What to call it; by default the name in its header.
        rank: One of its processes; by default the run.

    Raises:
        UnreadableLog: If it is no log, cut short, or a newer version's; any method may raise it later.
    """

    def __init__(self, path: str | Place | Database, name: str | None = None, *, rank: int | None = None) -> None:
        self._log = log_at(path, rank or 0)
        self._of_run = rank is None and is_run(path)
        self.path = self._log.place
        self._header_text, self._header, self._own_rank = "", Header("", 0.0), rank or 0
        self._readers: dict[int, Reader] = {}
        self._pulse = Pulse()
        self.name = name or self.header.name

    @property
    def header(self) -> Header:
        """Description of the run; a resumed run writes a new one."""
        with self._log.reading() as (connection, number):
            columns = run.c.header, run.c.created, run.c.rank
            row = connection.execute(sa.select(*columns).where(run.c.id == number)).one()
            if row.header != self._header_text:
                self._header = replace(Header.from_json(loads(row.header)), created=row.created)
                self._header_text, self._own_rank = row.header, row.rank
        return self._header

    def at_once(self) -> AbstractContextManager[object]:
        """What this thread asks within it is answered from one transaction, and so of one moment."""
        return self._log.reading()

    def state(self) -> str:
        """``running``, ``finished``, ``interrupted``, or ``crashed`` where the writer has gone without a word.

        Of a run of several processes: crashed if one of them is, and finished once all of them are.
        """
        with self._log.reading() as (connection, number):
            query = sa.select(run, self._log.clock().label("now")).where(run.c.id == number)
            own = state_of(connection.execute(query).one(), self._pulse)
        others = [rank for rank in self.ranks() if rank != self._own_rank]
        return joint([own, *self._states(others).values()]) if others else own

    @property
    def number(self) -> int:
        """Rank of the process whose points are read."""
        return self._own_rank

    def states(self) -> dict[int, str]:
        """State of each of the run's processes, by rank; without those whose log cannot be read."""
        return self._states(self.ranks())

    def ranks(self) -> tuple[int, ...]:
        """The processes that write the run, or wrote it last, as far as they have a log here."""
        if not self._of_run:
            return (self._own_rank,)
        found = self._log.ranks()
        size = size_of(self.header.job) if len(found) > 1 else 0
        return tuple(rank for rank in found if rank < size or not size)

    def rank(self, number: int) -> Reader:
        """The log of one of the run's processes.

        Raises:
            KeyError: If there is none; names those there are.
            UnreadableLog: If it cannot be read.
        """
        if number not in self.ranks():
            known = ", ".join(map(str, self.ranks()))
            raise KeyError(f"the run {self.name!r} has no log of rank {number!r}; there are: {known}")
        if not self._of_run:
            return self
        if number not in self._readers:
            self._readers[number] = Reader(beside(self._log, number), self.name, rank=number)
        return self._readers[number]

    def cursor(self) -> int:
        """Grows with every commit of points, events or documents and at the end: equal cursor, nothing new."""
        return self._count(run.c.cursor)

    def dropped(self) -> int:
        """Items that the writer could not keep up with."""
        return self._count(run.c.dropped)

    def series(self) -> tuple[Series, ...]:
        """All series, in order of appearance."""
        with self._log.reading() as (connection, number):
            query = sa.select(series).where(series.c.run == number, series.c.points > 0).order_by(series.c.id)
            rows = connection.execute(query).all()
        return tuple(
            Series(
                row.key,
                kind_of(row.layered, row.histogram),
                row.origin,
                row.points,
                row.first_step,
                row.last_step,
                row.histogram is not None,
            )
            for row in rows
        )

    def latest(self) -> dict[str, float | None]:
        """The last value of each scalar, without a look at its points; ``None`` where it is missing."""
        with self._log.reading() as (connection, number):
            return latest_values(connection, number)

    def attempts(self) -> tuple[Attempt, ...]:
        """Who wrote the run, one after the other. What a later one has overtaken is seen only where it is asked for."""
        with self._log.reading() as (connection, number):
            return tuple(attempts_of(connection, number))

    def annotations(self) -> Annotations:
        """Its tags and notes, as they are by now."""
        with self._log.reading() as snapshot:
            said = self._log.annotations(snapshot)
        return said if said.tags is not None else replace(said, tags=self.header.tags)

    def column(
        self, key: str, kind: str | None = None, *, since: int = 0, steps: tuple[int, int] | None = None,
        max_points: int | None = None, attempt: int | None = None,
    ) -> Column:  # fmt: skip
        """The points of a series. Where a step was logged twice, the later point counts.

        Args:
            key: Log key.
            kind: Which of the key's series; by default the network-wise one, if there is one.
            since: A cursor: only points committed after it.
            steps: First and last step wanted.
            max_points: Bound on the number of points. Scalars keep every stretch's extremes and gaps; layers and
                histograms are taken at even strides.
            attempt: Number of one of the run's attempts: its points alone, those included that a later one overtook.

        Returns:
            The points; of arrays the steps and names alone, see :meth:`arrays`.

        Raises:
            KeyError: If there is no such series; names the nearest.
            ValueError: If ``max_points`` is less than 2, or there is no such attempt.
        """
        if max_points is not None and max_points < 2:
            raise ValueError(
                f"a column keeps at least its first and last point: max_points must be 2 or more, not {max_points}"
            )
        with self._finding(key, kind, attempt, since) as (look, row):
            return look.column(row, steps, max_points)

    def news(self, since: int) -> dict[str, Column]:
        """The scalars that were committed after the cursor ``since``, by key: all in one look."""
        with self._looking(since=since) as look:
            look.sight = replace(look.sight, until=self._newest(look))
            return {column.key: column for column in look.columns(scalars=True)}

    def stretches(self, key: str, kind: str, most: int) -> list[tuple[int, int]]:
        """First and last steps of stretches that together leave no step out, each with about ``most`` points.

        For what wants all points of a long run without holding them: ``column(key, kind, steps=stretch)`` for each.

        Raises:
            KeyError: As :meth:`column`.
        """
        with self._finding(key, kind) as (look, row):
            return look.stretches(row, most)

    def at(self, key: str, step: int, kind: str | None = None) -> Column:
        """The last point at or before ``step``: one row, or none.

        Raises:
            KeyError: As :meth:`column`.
        """
        with self._finding(key, kind) as (look, row):
            return look.at(row, step)

    def arrays(self, key: str, step: int) -> dict[str, Array]:
        """The arrays by name that were logged last at or before ``step``; none where there are none so early.

        Raises:
            KeyError: As :meth:`column`, also where the key holds no arrays.
        """
        with self._finding(key, "arrays") as (look, row):
            return look.arrays(row, step)

    def events(self, since: int = 0) -> list[Event]:
        """Events committed after the cursor ``since``, in that order; without those at steps that were overtaken."""
        with self._looking() as look:
            return self._events(look, since)

    def _events(self, look: Look, since: int, until: int | None = None) -> list[Event]:
        committed = [event.c.run == look.number, event.c.id > since]
        committed += [] if until is None else [event.c.id <= until]
        rows = look.connection.execute(sa.select(*event.c[1:]).where(*committed).order_by(event.c.id))
        events = [Event(**row._mapping, rank=self._own_rank) for row in rows]
        return [each for each in events if each.step is None or look.sight.shows_one(each.id, each.step)]

    def portion(self, since: int = 0, most: int = 4_000) -> Portion:
        """What was committed after the cursor ``since``, as far as there is room: asked again and again it gives all.

        Args:
            since: A cursor; the last portion's.
            most: Points and events at most.
        """
        with self._looking(since=since) as look:
            newest = self._newest(look)
            cursor = max(since, min(since + most, newest))
            look.sight = replace(look.sight, until=cursor)
            events = tuple(self._events(look, since, cursor))
            return Portion(cursor, tuple(look.columns()), events, look.sight.overtaken, cursor < newest)

    @staticmethod
    def _newest(look: Look) -> int:
        cursor: int = look.connection.execute(sa.select(run.c.cursor).where(run.c.id == look.number)).scalar_one()
        return cursor

    def document(self, name: str) -> Any | None:
        """The latest JSON document of this name."""
        with self._log.reading() as (connection, number):
            query = sa.select(document.c.value).where(document.c.run == number, document.c.name == name)
            text = connection.execute(query).scalar()
            return None if text is None else loads(text)

    def pieces(self, name: str) -> Iterator[bytes]:
        """What was kept under this name, a piece at a time."""
        for place in itertools.count():
            with self._log.reading() as (connection, number):
                of_place = (piece.c.run == number, piece.c.name == name, piece.c.number == place)
                data = connection.execute(sa.select(piece.c.data).where(*of_place)).scalar()
            if data is None:
                return
            yield bytes(data)

    def close(self) -> None:
        """Forgets the log. It may be asked again all the same: nothing depends on it."""
        for reader in self._readers.values():
            reader.close()
        self._log.reading_engine().dispose()

    def _states(self, ranks: Iterable[int]) -> dict[int, str]:
        states = {}
        for rank in ranks:
            with suppress(UnreadableLog):  # of a process that is about to begin its log, or of a damaged one
                states[rank] = self.rank(rank).state()
        return states

    def _count(self, column: sa.ColumnElement[int]) -> int:
        with self._log.reading() as (connection, number):
            return connection.execute(sa.select(column).where(run.c.id == number)).scalar_one()

    @contextmanager
    def _looking(self, attempt: int | None = None, since: int = 0) -> Iterator[Look]:
        with self._log.reading() as (connection, number):
            attempts = attempts_of(connection, number)
            if attempt is not None and not 0 < attempt <= len(attempts):
                absent = ValueError(f"the run has attempts 1 to {len(attempts)}, not {attempt}")
            else:
                yield Look(connection, number, sight(attempts, since, attempt))
                return
        raise absent  # outside: it is no damage of the file's

    @contextmanager
    def _finding(
        self, key: str, kind: str | None, attempt: int | None = None, since: int = 0
    ) -> Iterator[tuple[Look, Any]]:
        """A look, and the row of a series in it."""
        with self._looking(attempt, since) as look:
            row = look.find(key, kind)
            if row is not None:
                yield look, row
                return
        raise KeyError(no_such(key, kind, self.series()))  # outside, as above
