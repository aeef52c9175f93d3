"""``cockpit tail``: a run as lines of text, while it runs or afterwards."""

from __future__ import annotations

import io
import select
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from cockpit.commands.terminal import printable
from cockpit.run import Run
from cockpit.store import Event, Reader

KEYS = ("loss", "learning_rate", "grad_norm")  # shown where the run has them, and the user's own metrics
ALONG = "learning_rate"  # of these: shown beside the others, and not worth a line of its own
PACE = 1.0  # seconds between looks
NUMBER = 10  # characters of a value


class Tail:
    """Follows one run: the readings of its first process, and what happens in all of them.

    Args:
        run: The run.
        keys: What to show; by default :data:`KEYS` and the user's own metrics, as they appear.
        file: Where to write.
        room: Characters in a line; ``None`` for as many as it takes.
    """

    def __init__(self, run: Run, keys: Sequence[str] | None, file: TextIO, room: int | None) -> None:
        self._reader: Reader = run.reader
        self._keys, self._file, self._room = keys, file, room
        self._columns: list[str] = []
        self._cursor = -1
        self._heard: dict[int, int] = {}  # of each process the last event
        self._told: set[tuple[str, int, float]] = set()

    def follow(self, lines: int) -> None:
        """Write the last ``lines`` readings, then those that come, until the run is over; then its state.

        Raises:
            BrokenPipeError: If nobody reads any longer.
        """
        state = self._reader.state()
        self._tell(lines)
        while state == "running":
            _pause(self._file, PACE)
            state = self._reader.state()  # before the readings: after the end there come no more
            self._tell(None)
        print(self._fitted(self._ending(state)), file=self._file, flush=True)

    def _tell(self, lines: int | None) -> None:
        """Write what has been added: events and readings in the order of their time."""
        rows, events = self._new_rows(), self._new_events()
        if lines is not None:
            rows = rows[-lines:] if lines else []
            earliest = rows[0][0] if rows else float("inf")
            events = [event for event in events if event.time >= earliest] if rows else events[-1:]
        own = self._reader.number
        told: list[tuple[float, int, str]] = [(event.time, 1, self._fitted(_said(event, own))) for event in events]
        if rows:
            told += self._lines(rows)
        for _, _, line in sorted(told, key=lambda entry: entry[:2]):
            print(line, file=self._file)
        self._file.flush()

    def _new_rows(self) -> list[tuple[float, int, dict[str, float | None]]]:
        """Time, step and values of the readings that were added, in the order of their steps."""
        cursor = self._reader.cursor()
        if cursor == self._cursor:
            return []
        rows: dict[int, tuple[float, int, dict[str, float | None]]] = {}
        seen = set()
        for key in self._wanted():
            # What was committed after the look at the cursor comes again with the next.
            column = self._reader.column(key, "scalar", since=max(0, self._cursor))
            columns = column.steps, column.times, column.values, column.missing
            for step, at, value, missing in zip(*(part.tolist() for part in columns), strict=True):
                seen.add((key, step, at))
                if (key, step, at) not in self._told:
                    rows.setdefault(step, (at, step, {}))[2][key] = None if missing else value
        self._told, self._cursor = seen, cursor
        return [rows[step] for step in sorted(rows) if self._keys is not None or rows[step][2].keys() - {ALONG}]

    def _wanted(self) -> list[str]:
        """The keys to read: of those that were asked for, those that there are by now."""
        scalars = {entry.key: entry.origin for entry in self._reader.series() if entry.kind == "scalar"}
        if self._keys is not None:
            return [key for key in self._keys if key in scalars]
        return [key for key in KEYS if key in scalars] + [key for key, origin in scalars.items() if origin == "user"]

    def _new_events(self) -> list[Event]:
        """What has happened in any of the run's processes, each of which counts its own seconds."""
        found = []
        for rank in self._reader.states():  # those whose log can be read
            events = self._reader.rank(rank).events(since=self._heard.get(rank, 0))
            if events:
                self._heard[rank] = events[-1].id
            found += events
        return sorted(found, key=lambda event: event.time)

    def _lines(self, rows: Sequence[tuple[float, int, dict[str, float | None]]]) -> Iterator[tuple[float, int, str]]:
        """A line for each reading, and headings above where there are other columns than before."""
        columns = self._wanted()
        if columns != self._columns:
            self._columns = columns
            yield rows[0][0], -1, self._heading()
        for at, step, values in rows:
            cells = [_written(values, key).rjust(self._wide(key)) for key in self._shown()]
            yield at, 0, "  ".join([f"{step:>8}", f"{_clock(at):>9}", *cells]).rstrip()

    def _heading(self) -> str:
        shown = self._shown()
        head = "  ".join([f"{'STEP':>8}", f"{'TIME':>9}", *(printable(key).rjust(self._wide(key)) for key in shown)])
        left = self._columns[len(shown) :]
        return f"{head}\n{self._fitted('(no room for ' + ', '.join(map(printable, left)) + ')')}" if left else head

    def _shown(self) -> list[str]:
        """The columns for which there is room."""
        shown, used = [], 19
        for key in self._columns:
            used += 2 + self._wide(key)
            if self._room is not None and used > self._room:
                break
            shown.append(key)
        return shown

    @staticmethod
    def _wide(key: str) -> int:
        return max(NUMBER, len(printable(key)))

    def _fitted(self, text: str) -> str:
        if self._room is None or len(text) <= self._room:
            return text
        return text[: max(1, self._room - 1)] + "…"

    def _ending(self, state: str) -> str:
        steps = [entry.last_step for entry in self._reader.series()]
        missing = [key for key in self._keys or () if key not in self._columns]
        never = f"; nothing was logged as {', '.join(map(printable, missing))}" if missing else ""
        ending = f"{state} at step {max(steps)}" if steps else f"{state} without a reading"
        states = self._reader.states()
        each = "".join(f", rank {rank} {own}" for rank, own in states.items()) if len(set(states.values())) > 1 else ""
        return f"{ending}{each}{never}"


def _said(event: Event, own: int) -> str:
    """An event; of another process than number ``own`` with its rank."""
    where = f"{event.step:>8}" if event.step is not None else " " * 8
    rank = f"rank {event.rank}: " if event.rank != own else ""
    subject = f"{event.subject}: " if event.subject else ""
    return printable(f"{where}  {_clock(event.time):>9}  {event.kind}: {rank}{subject}{event.text}")


def _written(values: dict[str, float | None], key: str) -> str:
    if key not in values:
        return ""
    value = values[key]
    return "missing" if value is None else f"{value:.5g}"


def _clock(seconds: float) -> str:
    if seconds < 0:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def _pause(file: TextIO, seconds: float) -> None:
    """Wait, but not for a run of which nobody wants to hear any more.

    Raises:
        BrokenPipeError: If the reader of a pipe has gone.
    """
    try:
        number = file.fileno()
    except io.UnsupportedOperation:  # a file in memory
        time.sleep(seconds)
        return
    if not hasattr(select, "poll") or sys.platform == "darwin":  # where a pipe's end cannot be watched so
        time.sleep(seconds)
        return
    watch = select.poll()
    watch.register(number, 0)
    if any(what & (select.POLLERR | select.POLLHUP) for _, what in watch.poll(1000 * seconds)):
        raise BrokenPipeError("nobody reads any longer")
