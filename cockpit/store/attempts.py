"""Who wrote a run, one after the other, and what of an earlier attempt is still to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from cockpit.store.schema import attempt, chunk, point


@dataclass(frozen=True)
class Attempt:
    """One writer of a run.

    Args:
        number: 1 for the one that began the run.
        first_step: Where it goes on; ``None`` as long as the first attempt has read nothing.
        cursor: Last number that was given before it.
        began: In seconds since 1970.
        host: Where it ran.
        pid: Its process.
        command: Its command line.
    """

    number: int
    first_step: int | None
    cursor: int
    began: float
    host: str
    pid: int
    command: str


@dataclass(frozen=True)
class Sight:
    """Which points are seen.

    Args:
        after: Numbers above this one only.
        until: Numbers up to this one only, if given.
        overtaken: Of points numbered up to the first of a pair those at steps from the second on are not seen.
    """

    after: int = 0
    until: int | None = None
    overtaken: tuple[tuple[int, int], ...] = ()

    def shows(self, ids: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """For each point, whether it is seen. Shape ``[n]``."""
        seen = ids > self.after
        if self.until is not None:
            seen &= ids <= self.until
        for cursor, first in self.overtaken:
            seen &= (ids > cursor) | (steps < first)
        return seen

    def shows_one(self, number: int, step: int) -> bool:
        """Whether what has this number and step is seen."""
        return bool(self.shows(np.array([number]), np.array([step]))[0])

    def shows_all(
        self, oldest: NDArray[np.int64], newest: NDArray[np.int64], last_steps: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """For each chunk, whether certainly all of its points are seen. Shape ``[chunks]``."""
        seen = oldest > self.after
        if self.until is not None:
            seen &= newest <= self.until
        for cursor, first in self.overtaken:
            seen &= (oldest > cursor) | (last_steps < first)
        return seen

    def among_rows(self) -> list[sa.ColumnElement[bool]]:
        """The same as conditions on rows of points."""
        wanted = [point.c.id > self.after] if self.after else []
        wanted += [] if self.until is None else [point.c.id + 0 <= self.until]
        wanted += [sa.or_(point.c.id + 0 > cursor, point.c.step + 0 < first) for cursor, first in self.overtaken]
        return wanted

    def among_chunks(self) -> list[sa.ColumnElement[bool]]:
        """Conditions on chunks without which none of their points is seen."""
        wanted = [chunk.c.id > self.after] if self.after else []
        return wanted + ([] if self.until is None else [chunk.c.oldest <= self.until])


def attempts_of(connection: sa.Connection, number: int) -> list[Attempt]:
    """Those of a run, the first one first."""
    query = sa.select(*attempt.c[1:]).where(attempt.c.run == number).order_by(attempt.c.number)
    return [Attempt(**row._mapping) for row in connection.execute(query)]


def sight(attempts: Sequence[Attempt], since: int = 0, only: int | None = None) -> Sight:
    """What is seen of a run, or of one of its attempts: of that everything.

    Args:
        attempts: All of the run's.
        since: A cursor: only points committed after it.
        only: Number of one of them.
    """
    if only is None:
        later = [(each.cursor, each.first_step) for each in attempts[1:] if each.first_step is not None]
        return Sight(since, None, tuple(later))
    following = attempts[only].cursor if only < len(attempts) else None
    return Sight(max(since, attempts[only - 1].cursor), following)
