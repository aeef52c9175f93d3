"""A run's log on its way into a sink: the same for a run that is being written and for one that is over."""

from __future__ import annotations

from cockpit.run import Run
from cockpit.sinks.rows import left_out
from cockpit.sinks.sink import Sink
from cockpit.store import Portion


class Passing:
    """Hands one portion after the other to a sink. What was refused is handed over again.

    Args:
        run: The run.
        sink: The sink.
        live: Whether this process writes the run.

    Attributes:
        left_out: Keys of what the sink has no place for so far, and what that is.
    """

    def __init__(self, run: Run, sink: Sink, live: bool = False) -> None:
        self._run, self._sink, self._live = run, sink, live
        self._cursor: int | None = None
        self._portion: Portion | None = None
        self.left_out: dict[str, str] = {}

    def advance(self) -> bool:
        """Hands over what has been added, up to a portion; returns whether there was more.

        Raises:
            Exception: What the log or the sink raises: nothing is lost by that.
        """
        if self._cursor is None:
            self._cursor = self._sink.begin(self._run, self._live)
        if self._portion is None:
            if self._run.reader.cursor() == self._cursor:
                return False
            self._portion = self._run.reader.portion(self._cursor)
        taken = self._sink.write(self._portion)
        self.left_out.update(left_out(self._portion))
        again = taken < self._portion.cursor
        more, self._cursor, self._portion = again or self._portion.more, taken, None
        return more

    def waiting(self) -> int:
        """How many points and events of the log the sink does not have yet, and documents, which it never gets."""
        return self._run.reader.cursor() - (self._cursor or 0)

    def end(self) -> None:
        """Closes what was opened."""
        if self._cursor is not None:
            self._sink.end(self._run.state)


def pass_on(run: Run, sink: Sink) -> dict[str, str]:
    """Hands all of a run's log over.

    Returns:
        Keys of what the sink has no place for, and what that is.

    Raises:
        Exception: What the log or the sink raises.
    """
    sink.prepare()
    passing = Passing(run, sink)
    while passing.advance():
        pass
    passing.end()
    return passing.left_out
