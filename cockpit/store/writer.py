"""The writing side of a log: a queue that training fills in microseconds and a thread that empties it into the file."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import sqlalchemy as sa

from cockpit.reading import Histogram, Reading
from cockpit.store.claim import Claim, TakenOver, claim
from cockpit.store.encoder import Batch, Encoder
from cockpit.store.schema import Header, dumps

_BATCH = 1_000  # items in one transaction
_HEARTBEAT = 1.0
_LONGEST_PAUSE = 5.0  # between attempts to write, seconds
_MEMORY = 256 * 1024 * 1024  # bytes of histograms the queue may hold, roughly
_FINAL_PATIENCE = 5.0  # seconds that close() keeps trying
_WRITERS: weakref.WeakSet[Writer] = weakref.WeakSet()


@dataclass(frozen=True)
class _Readings:
    step: int
    time: float
    readings: Mapping[str, Reading]
    weight: int


@dataclass(frozen=True)
class _Scalars:
    step: int
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class _Event:
    step: int | None
    time: float
    kind: str
    text: str
    subject: str


@dataclass(frozen=True)
class _Document:
    name: str
    value: str


_Item: TypeAlias = "_Readings | _Scalars | _Event | _Document | threading.Event"


class Writer:
    """Writes one run from one process on a background thread. After construction no method raises into training.

    Args:
        directory: The run's directory; made where it does not exist.
        header: Description of the run.
        resume: Whether to go on where an earlier writer of this run stopped. Without one, the run is new.
        rank: Number of the process among those of a distributed run; each writes its own file.
        flush_interval: Seconds between writes: what a killed process loses at most.
        capacity: Items the queue holds; further ones are dropped and counted.

    Attributes:
        path: The log file.
        elapsed: Seconds that an earlier writer's last point stands from the run's beginning; 0 for a new run. Who
            resumes adds it to their clock.
        last_step: Highest step in the log when it was opened; ``None`` for a new run.
        dropped: Items that were not written because the queue was full.

    Raises:
        RunExists: If the run is over and ``resume`` is not set.
        RunIsLive: If a living process writes it.
        UnreadableLog: If there is a file in its place that is no log, or a newer version's.
        OSError: If the place cannot be written, in words.
    """

    def __init__(
        self, directory: str | Path, header: Header, *, resume: bool = False, rank: int = 0,
        flush_interval: float = 0.5, capacity: int = 20_000,
    ) -> None:  # fmt: skip
        self._claim: Claim = claim(Path(directory) / f"rank{rank}.db", header, resume=resume)
        self.path, self.elapsed, self.last_step = self._claim.path, self._claim.elapsed, self._claim.last_step
        self.dropped = 0
        self._interval, self._capacity = flush_interval, capacity
        self._queue: deque[_Item] = deque()
        self._weight = 0
        self._held = 0  # items taken from the queue and not yet committed
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._final_state: str | None = None
        self._disabled = False
        self._thread = threading.Thread(target=self._run, name="cockpit-writer", daemon=True)
        _WRITERS.add(self)
        atexit.register(self._at_exit)
        self._thread.start()

    def put(self, step: int, time: float, readings: Mapping[str, Reading]) -> None:
        """Hands over one step's readings; they must not be changed afterwards.

        Args:
            step: Number of the step.
            time: Seconds since the run began.
            readings: By log key. The layers become a layer-wise series of the same key, each part a series
                ``key.part``.
        """
        weight = sum(map(_weight, readings.values()))
        if self._weight + weight > _MEMORY:
            self._drop()
        else:
            self._enqueue(_Readings(step, time, readings, weight))

    def scalars(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """The user's own metrics; what is no number becomes an error event."""
        numbers = {}
        for key, value in values.items():
            try:
                numbers[str(key)] = float(value)
            except Exception as error:  # the user's object; its conversion may fail in any way
                self.event(
                    step, time, "error", f"{key!r} was not logged: {value!r:.200} is no number ({error})", str(key)
                )
        self._enqueue(_Scalars(step, time, numbers))

    def event(self, step: int | None, time: float, kind: str, text: str, subject: str = "") -> None:
        """Something that happened: ``warning``, ``error``, ``info``, ``learning_rate`` or ``evaluation``.

        Args:
            step: When, if at a step.
            time: When, in seconds since the run began.
            kind: One of the words above.
            text: What to tell the user.
            subject: Panel or instrument it is about.
        """
        self._enqueue(_Event(step, time, kind, text, subject))

    def document(self, name: str, value: Any) -> None:
        """Replaces the JSON document of this name. What JSON cannot hold is kept as text."""
        try:
            self._enqueue(_Document(name, dumps(value)))
        except Exception as error:  # a cyclic or hostile object
            self._enqueue(_Event(None, 0.0, "error", f"the document {name!r} was not stored: {error!r}", name))

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until all that was handed over is in the file; False if it is not after ``timeout`` seconds."""
        if self._disabled or not self._thread.is_alive():
            return not self._queue and self._held == 0
        done = threading.Event()
        self._queue.append(done)
        self._wake.set()
        return done.wait(timeout)

    def close(self, state: str = "finished") -> None:
        """Writes what is left, makes the log a single file, and ends the thread. Again: no effect.

        Args:
            state: How the run ended: ``finished``, ``interrupted`` or ``crashed``.
        """
        if self._disabled:
            return
        if self._final_state is None:
            self._final_state = state
        self._wake.set()
        self._thread.join()
        _WRITERS.discard(self)
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        self.close("interrupted")

    def _enqueue(self, item: _Item) -> None:
        if self._disabled or self._final_state is not None:
            return
        waiting = len(self._queue) + self._held
        if waiting >= self._capacity:
            self._drop()
            return
        if isinstance(item, _Readings):
            self._weight += item.weight
        self._queue.append(item)
        if waiting * 2 > self._capacity:
            self._wake.set()

    def _drop(self) -> None:
        with self._lock:
            self.dropped += 1

    # The rest runs on the thread, which alone uses the connection: a forked child has no such thread.

    def _run(self) -> None:
        encoder = self._claim.encoder
        pause, trouble, beaten = self._interval, "", time.monotonic()
        deadline: float | None = None
        batch: Batch | None = None
        waiting: list[threading.Event] = []
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._disabled:
                return
            closing = self._final_state is not None
            if closing and deadline is None:
                deadline = time.monotonic() + _FINAL_PATIENCE
            try:
                while batch is not None or self._queue or time.monotonic() - beaten > _HEARTBEAT:
                    if batch is None:
                        batch, waiting = self._encode(encoder)
                    self._claim.commit(batch, self.dropped)
                    beaten, batch, self._held = time.monotonic(), None, 0
                    for done in waiting:
                        done.set()
                if closing:
                    self._claim.release(self._final_state or "finished", self.dropped)
                    return
                pause, trouble = self._interval, ""
            except TakenOver as error:
                self._disabled = True
                _report(str(error))
                return
            except (sa.exc.OperationalError, OSError) as error:
                self._claim.disconnect()
                pause = min(_LONGEST_PAUSE, 2 * pause)
                if not trouble:
                    trouble = (
                        f"the log {self.path} cannot be written ({error}); training goes on, and writing is tried again"
                    )
                    _report(trouble)
                if deadline is not None and time.monotonic() > deadline:
                    _report(f"{self._held + len(self._queue)} items were lost: {self.path} could not be written")
                    return

    def _encode(self, encoder: Encoder) -> tuple[Batch, list[threading.Event]]:
        waiting: list[threading.Event] = []
        for _ in range(_BATCH):
            try:
                item = self._queue.popleft()
            except IndexError:
                break
            self._held += 1
            try:
                if isinstance(item, _Readings):
                    self._weight -= item.weight
                    encoder.readings(item.step, item.time, item.readings)
                elif isinstance(item, _Scalars):
                    encoder.scalars(item.step, item.time, item.values)
                elif isinstance(item, _Event):
                    encoder.event(item.step, item.time, item.kind, item.text, item.subject)
                elif isinstance(item, _Document):
                    encoder.document(item.name, item.value)
                else:
                    waiting.append(item)
            except Exception as error:
                encoder.say(None, 0.0, "error", f"something handed to the log cannot be stored: {error!r}", "")
        return encoder.take(), waiting


def _weight(reading: Reading) -> int:
    """Bytes of a reading's histograms, roughly: those of its layers are taken to be alike."""
    weight = reading.value.counts.nbytes if isinstance(reading.value, Histogram) else 0
    for value in reading.layers.values():
        return weight + (len(reading.layers) * value.counts.nbytes if isinstance(value, Histogram) else 0)
    return weight


def _report(text: str) -> None:
    """Tells the user without raising, also where warnings are errors."""
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:
        print(f"cockpit: {text}", file=sys.stderr)


def _disable_in_child() -> None:
    for writer in list(_WRITERS):
        writer._disabled = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disable_in_child)
