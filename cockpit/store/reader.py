"""The reading side of one run's log, safe beside a live writer and from many threads."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cockpit.store import database, remarks
from cockpit.store.arrays import Array
from cockpit.store.attempts import Attempt, attempts_of, sight
from cockpit.store.columns import Column
from cockpit.store.look import Look, latest_values
from cockpit.store.remarks import Annotations
from cockpit.store.schema import Header, Kind, Origin, document, event, kind_of, piece, run, series

_NUMBER = 1  # of the one run in a file


@dataclass(frozen=True)
class Series:
    """What can be read under a key.

    Args:
        key: Log key.
        kind: ``scalar``, ``histogram`` or ``histogram2d``; ``layers``, ``layer_histograms`` or ``layer_histograms2d``;
            ``arrays``.
        origin: ``instrument``, or ``user`` for metrics that the training script logs.
        points: How often it was logged.
        first_step: Lowest step.
        last_step: Highest step.
        defined: Whether any of its points has a value; in a kind that is ``scalar`` or ``layers`` until one has.
    """

    key: str
    kind: Kind
    origin: Origin
    points: int
    first_step: int
    last_step: int
    defined: bool = True


@dataclass(frozen=True)
class Event:
    """Something that happened during a run.

    Args:
        id: Cursor at which it was committed.
        step: When; ``None`` if at no step.
        time: Seconds since the run began.
        kind: ``warning``, ``error``, ``info``, ``learning_rate`` or ``evaluation``.
        text: What to tell the user.
        subject: Panel or instrument it is about; empty for the run.
    """

    id: int
    step: int | None
    time: float
    kind: str
    text: str
    subject: str


class Reader:
    """One run, read only. Each call is one short transaction on a connection of its own.

    Args:
        path: The run's directory, or its ``rank0.db``.
        name: What to call it; by default the name in its header.

    Raises:
        UnreadableLog: If it is no log, cut short, or a newer version's; any method may raise it later.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        path = Path(path)
        self.path = path / "rank0.db" if path.is_dir() else path
        self._engine = database.reading_engine(self.path)
        self._header_text, self._header = "", Header("", 0.0)
        self.name = name or self.header.name

    @property
    def header(self) -> Header:
        """Description of the run; a resumed run writes a new one."""
        with database.reading(self._engine, self.path) as connection:
            database.check_version(connection, self.path)
            row = connection.execute(sa.select(run.c.header, run.c.created)).one()
            if row.header != self._header_text:
                self._header = replace(Header.from_json(json.loads(row.header)), created=row.created)
                self._header_text = row.header
        return self._header

    def state(self) -> str:
        """``running``, ``finished``, ``interrupted``, or ``crashed`` where the writer has gone without a word."""
        with database.reading(self._engine, self.path) as connection:
            return database.state_of(connection.execute(sa.select(run)).one())

    def cursor(self) -> int:
        """Grows with every commit of points, events or documents and at the end: equal cursor, nothing new."""
        return int(self._value(sa.select(run.c.cursor)))

    def dropped(self) -> int:
        """Items that the writer could not keep up with."""
        return int(self._value(sa.select(run.c.dropped)))

    def series(self) -> tuple[Series, ...]:
        """All series, in order of appearance."""
        query = sa.select(series).where(series.c.run == _NUMBER, series.c.points > 0).order_by(series.c.id)
        with database.reading(self._engine, self.path) as connection:
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
        with database.reading(self._engine, self.path) as connection:
            return latest_values(connection, _NUMBER)

    def attempts(self) -> tuple[Attempt, ...]:
        """Who wrote the run, one after the other. What a later one has overtaken is seen only where it is asked for."""
        with database.reading(self._engine, self.path) as connection:
            return tuple(attempts_of(connection, _NUMBER))

    def annotations(self) -> Annotations:
        """Its tags and notes, as they are by now."""
        said = remarks.read(self.path.parent)
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
        with self._looking(attempt, since) as look:
            row = look.find(key, kind)
            if row is not None:
                return look.column(row, steps, max_points)
        raise KeyError(self._no_such(key, kind))

    def at(self, key: str, step: int, kind: str | None = None) -> Column:
        """The last point at or before ``step``: one row, or none.

        Raises:
            KeyError: As :meth:`column`.
        """
        with self._looking() as look:
            row = look.find(key, kind)
            if row is not None:
                return look.at(row, step)
        raise KeyError(self._no_such(key, kind))

    def arrays(self, key: str, step: int) -> dict[str, Array]:
        """The arrays by name that were logged last at or before ``step``; none where there are none so early.

        Raises:
            KeyError: As :meth:`column`, also where the key holds no arrays.
        """
        with self._looking() as look:
            row = look.find(key, "arrays")
            if row is not None:
                return look.arrays(row, step)
        raise KeyError(self._no_such(key, "arrays"))

    def events(self, since: int = 0) -> list[Event]:
        """Events committed after the cursor ``since``, in that order; without those at steps that were overtaken."""
        query = sa.select(*event.c[1:]).where(event.c.run == _NUMBER, event.c.id > since).order_by(event.c.id)
        with self._looking() as look:
            events = [Event(**row._mapping) for row in look.connection.execute(query)]
            return [each for each in events if each.step is None or look.sight.shows_one(each.id, each.step)]

    def document(self, name: str) -> Any | None:
        """The latest JSON document of this name."""
        query = sa.select(document.c.value).where(document.c.run == _NUMBER, document.c.name == name)
        with database.reading(self._engine, self.path) as connection:
            text = connection.execute(query).scalar()
            return None if text is None else json.loads(text)

    def pieces(self, name: str) -> Iterator[bytes]:
        """What was kept under this name, a piece at a time."""
        number = 0
        while True:
            query = sa.select(piece.c.data).where(
                piece.c.run == _NUMBER, piece.c.name == name, piece.c.number == number
            )
            with database.reading(self._engine, self.path) as connection:
                data = connection.execute(query).scalar()
            if data is None:
                return
            yield bytes(data)
            number += 1

    def close(self) -> None:
        """Forgets the file. A reader holds no connection between calls, so nothing depends on it."""
        self._engine.dispose()

    def _value(self, query: sa.Select[Any]) -> Any:
        with database.reading(self._engine, self.path) as connection:
            return connection.execute(query).scalar()

    @contextmanager
    def _looking(self, attempt: int | None = None, since: int = 0) -> Iterator[Look]:
        with database.reading(self._engine, self.path) as connection:
            attempts = attempts_of(connection, _NUMBER)
            if attempt is not None and not 0 < attempt <= len(attempts):
                absent = ValueError(f"the run has attempts 1 to {len(attempts)}, not {attempt}")
            else:
                yield Look(connection, _NUMBER, sight(attempts, since, attempt))
                return
        raise absent  # outside: it is no damage of the file's

    def _no_such(self, key: str, kind: str | None) -> str:
        every = self.series()
        kinds = [entry.kind for entry in every if entry.key == key]
        if kinds:
            return f"{key!r} is logged as {', '.join(kinds)}, not as {kind}"
        keys = sorted({entry.key for entry in every})
        near = difflib.get_close_matches(key, keys, 1)
        hint = f", did you mean {near[0]!r}?" if near else "."
        return f"nothing is logged as {key!r}{hint} There are: {', '.join(keys) or 'no series yet'}"
