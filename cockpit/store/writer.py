"""The writing side of a log: what training calls, in microseconds and without ever failing."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from cockpit.reading import Histogram, Histogram2d, Reading, Value
from cockpit.store.address import Place
from cockpit.store.claim import claim
from cockpit.store.databases import log_of
from cockpit.store.drain import Drain
from cockpit.store.encoder import Encoder
from cockpit.store.header import Header
from cockpit.store.inbox import Inbox
from cockpit.store.log import report
from cockpit.store.plain import dumps

_CLOSE_PATIENCE = 60.0  # seconds for a long backlog on a slow disk
_WRITERS: weakref.WeakSet[Writer] = weakref.WeakSet()


class Writer:
    """Writes one run from one process on a background thread. After construction no method raises into training.

    Where the file cannot be written (disk full, directory gone) a warning says so once, readings are kept within the
    capacity, and writing is tried again. In a forked child the writer does nothing.

    Args:
        directory: The run's directory, made where it does not exist; or its address in a database.
        header: Description of the run.
        resume: Whether to go on where an earlier writer of this run stopped, or the step at which to: its points from
            there on are masked, as they are from the first reading on that comes at an earlier step. If there was no
            writer, the run is new.
        rank: Number of the process among those of a distributed run; each writes its own file.
        flush_interval: Seconds from the beginning of one write to that of the next: what a killed process loses at
            most, besides what it takes to write.
        capacity: Calls that may wait to be written; further ones are dropped and counted.

    Attributes:
        path: The log file, or the address.
        elapsed: Seconds from the run's beginning to the last point or event of an earlier writer; 0 for a new run. Who
            resumes adds it to their clock.
        last_step: Highest step in the log when it was opened, of those that are not masked; ``None`` for a new run.

        attempt: Number of this writer among the run's.

    Raises:
        RunExists: If the run is over and ``resume`` is not set.
        RunIsLive: If a living process writes it.
        UnreadableLog: If the file in its place is no log, or a newer version's.
        OSError: If the place cannot be written, in words.
    """

    def __init__(
        self, directory: str | Place, header: Header, *, resume: bool | int = False, rank: int = 0,
        flush_interval: float = 0.5, capacity: int = 20_000,
    ) -> None:  # fmt: skip
        held, encoder = claim(log_of(directory, rank), header, resume=resume, rank=rank)
        self.path, self.elapsed, self.last_step = held.database.place, encoder.elapsed, encoder.last_step
        self.attempt = encoder.attempt.number
        self._inbox = Inbox(capacity)
        self._drain = Drain(self._inbox, held, encoder, flush_interval)
        _WRITERS.add(self)
        atexit.register(self._at_exit)
        self._drain.start()

    @property
    def dropped(self) -> int:
        """Calls that were not written because too many were waiting."""
        return self._inbox.dropped

    @property
    def seconds(self) -> float:
        """Processor time that writing has taken so far, as of the last write."""
        return self._drain.seconds

    def put(self, step: int, time: float, readings: Mapping[str, Reading]) -> None:
        """Hands over one step's readings; they must not be changed afterwards.

        Args:
            step: Number of the step.
            time: Seconds since the run began.
            readings: By log key. The layers become a layer-wise series of the same key, each part a series
                ``key.part``, arrays a series of their own under the key; a new reason becomes an ``info`` event with
                the key as its subject.
        """
        try:
            weight = sum(map(_weight, readings.values()))
        except Exception:  # no reading at all: the thread says which, as an error event
            weight = 0
        self._inbox.put(Encoder.readings, step, time, readings, weight=weight)
        # Apart: where arrays come faster than they can be written, numbers are not dropped with them.
        for key, reading in readings.items() if isinstance(readings, Mapping) else ():
            arrays = getattr(reading, "arrays", {})
            if not isinstance(arrays, Mapping) or arrays:  # what is no mapping, too: the thread says so
                self._inbox.put(Encoder.arrays, step, time, key, arrays, weight=_nbytes(arrays))

    def scalars(self, step: int, time: float, values: Mapping[str, float | None]) -> None:
        """Hands over the user's own metrics. ``None`` is a gap; what is no number becomes an ``error`` event.

        A key that is an instrument's is stored as ``user/<key>``.
        """
        numbers: dict[str, float | None] = {}
        try:
            entries = [(str(key), value) for key, value in values.items()]
        except Exception as error:  # the user's objects: whatever is asked of them may fail
            self._inbox.put(Encoder.say, step, time, "error", f"metrics must be numbers by name: {error}", "")
            return
        for key, value in entries:
            try:
                numbers[key] = None if value is None else float(value)
            except Exception as error:
                words = f"{key!r} was not logged: {type(value).__name__} is no number ({error})"
                self._inbox.put(Encoder.say, step, time, "error", words, key)
        self._inbox.put(Encoder.scalars, step, time, numbers)

    def event(self, step: int | None, time: float, kind: str, text: str, subject: str = "") -> None:
        """Something that happened.

        Args:
            step: When, if at a step.
            time: When, in seconds since the run began.
            kind: ``warning``, ``error``, ``info``, ``learning_rate`` or ``evaluation``.
            text: What to tell the user.
            subject: Panel or instrument it is about.
        """
        self._inbox.put(Encoder.event, step, time, kind, text, subject)

    def document(self, name: str, value: Any) -> None:
        """Replaces the JSON document of this name. What JSON cannot hold is kept as text."""
        try:
            written = dumps(value)
        except Exception as error:  # without end, or with a text of its own that fails
            self.event(None, 0.0, "error", f"the document {name!r} was not stored: {error!r}", str(name))
        else:
            self._inbox.put(Encoder.document, name, written)

    def keep(self, name: str, pieces: Iterable[bytes]) -> None:
        """Keeps something large with the run, in place of what was kept under its name.

        Args:
            name: What to find it by, see :meth:`Reader.pieces`.
            pieces: Asked for one by one on the writer's thread, a few megabytes a second while the run goes on and the
                others when it ends; those that are then not made are missing. A megabyte each is good.
        """
        self._inbox.keep(name, pieces)

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until all that was handed over is in the file; False if it is not after ``timeout`` seconds.

        Pieces of what is kept are not waited for.
        """
        if self._inbox.disabled or not self._drain.is_alive():
            return len(self._inbox) == 0
        return self._inbox.mark().wait(timeout)

    def close(self, state: str = "finished") -> None:
        """Writes what is left, makes the log a single file, and ends the thread. A second call does nothing.

        Args:
            state: How the run ended: ``finished``, ``interrupted`` or ``crashed``.
        """
        if self._inbox.disabled:
            return
        self._drain.stop(state)
        self._drain.join(_CLOSE_PATIENCE)
        if self._drain.is_alive():
            report(f"{self.path} is still being written after {_CLOSE_PATIENCE:.0f} s: not waiting for it")
        self._inbox.disabled = True
        _WRITERS.discard(self)
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        self.close("interrupted")

    def _disable(self) -> None:
        self._inbox.disabled = True


def _weight(reading: Reading) -> int:
    """Bytes of a reading's histograms, roughly: those of its layers are taken to be alike."""
    weight = _bytes(reading.value)
    for value in reading.layers.values():
        return weight + len(reading.layers) * _bytes(value)
    return weight


def _bytes(value: Value) -> int:
    return value.counts.nbytes if isinstance(value, (Histogram, Histogram2d)) else 0


def _nbytes(arrays: object) -> int:
    return sum(getattr(array, "nbytes", 0) for array in arrays.values()) if isinstance(arrays, Mapping) else 0


def _disable_in_child() -> None:
    for writer in list(_WRITERS):
        writer._disable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disable_in_child)
