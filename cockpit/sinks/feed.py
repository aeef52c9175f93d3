"""The threads that pass on a run while this process writes it: a little behind, and at no cost to training."""

from __future__ import annotations

import atexit
import copy
import os
import threading
import time
from collections.abc import Callable, Sequence

from cockpit.run import Run
from cockpit.sinks.passing import Passing
from cockpit.sinks.sink import Sink
from cockpit.store import Reader, Writer
from cockpit.store.log import report

_PACE = 1.0  # seconds between looks at the log
_REST = 19  # of twenty seconds a sink that has much to catch up with works for one: training has the interpreter, too
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0  # between attempts
_PATIENCE = 30.0  # seconds for what is left at the end
_FAILING_PATIENCE = 5.0  # the same, where it fails
_GRACE = 5.0  # seconds more for the place to be closed


class Feed(threading.Thread):
    """Follows the log into one sink until told that it is complete. Nothing that goes wrong leaves it.

    Args:
        sink: The sink.
        writer: Writes the log; is told, as events, what its readers should know.
        began: When the run did, on the monotonic clock.
        opened: Called once the sink is open.

    Attributes:
        seconds: Processor time that the thread has used since the sink is open.
        troubles: How often it had to try again.
    """

    seconds = 0.0
    troubles = 0

    def __init__(self, sink: Sink, writer: Writer, began: float, opened: Callable[[], None]) -> None:
        super().__init__(name=f"cockpit-{sink.package}", daemon=True)
        self._sink, self._writer, self._began, self._opened = sink, writer, began, opened
        self._complete = threading.Event()
        self._complete_since = 0.0
        self._open = False
        self._failing_since: float | None = None
        self._told: set[str] = set()

    def stop(self) -> None:
        """The log is complete: passes on what is left and ends, within a time."""
        self._complete_since = time.monotonic()
        self._complete.set()

    def finish(self) -> None:
        """Waits for that, not for ever."""
        self.join(max(0.0, self._complete_since + _PATIENCE + _GRACE - time.monotonic()))
        if self.is_alive():
            report(f"{self._sink.title} does not answer: not waiting for it. {self._afterwards()}")

    def run(self) -> None:
        """Until the log is complete and passed on, or the time is over."""
        passing: Passing | None = None
        pause = 0.0
        while True:
            complete = self._complete.wait(pause)
            before = time.thread_time()
            try:
                if passing is None:
                    passing = Passing(Run(Reader(self._writer.path)), self._sink, live=True)
                more = passing.advance()
            except Exception as error:  # directory gone, disk full, no network, a package that is broken
                self._troubled(error)
                if self._waited(_FAILING_PATIENCE):
                    break
                pause = min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, 2 * pause))
                time.sleep(_SHORTEST_PAUSE if complete else 0)
                continue
            used = self._used(before)
            self._recovered()
            self._mention(passing)
            if complete and (not more or self._waited(_PATIENCE)):
                break
            pause = max(0.0 if more else _PACE, _REST * used)
        self._conclude(passing)

    def _used(self, before: float) -> float:
        """Processor time of one turn. Opening the sink, which comes first and once, is not training's to pay for."""
        used = time.thread_time() - before
        if self._open:
            self.seconds += used
            return used
        self._open = True
        self._opened()
        return 0.0

    def _waited(self, seconds: float) -> bool:
        """Whether the log has been complete for so long."""
        return self._complete.is_set() and time.monotonic() > self._complete_since + seconds

    def _conclude(self, passing: Passing | None) -> None:
        if passing is None:
            report(f"{self._sink.title} lacks the run, whose log cannot be read. {self._afterwards()}")
            return
        try:
            if waiting := passing.waiting():
                report(f"{self._sink.title} lacks the last {waiting:,} entries of the log. {self._afterwards()}")
            passing.end()
        except Exception as error:
            report(f"{self._sink.title} could not be closed ({_said(error)}). {self._afterwards()}")

    def _afterwards(self) -> str:
        return f"The log is whole: `cockpit export {self._writer.path} --to {self._sink.package}` passes it on"

    def _troubled(self, error: Exception) -> None:
        self.troubles += 1
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            words = f"{self._sink.title} cannot be given the run ({_said(error)})"
            self._tell("warning", words)
            report(f"{words}. Training goes on; it is tried again.")

    def _recovered(self) -> None:
        if self._failing_since is not None:
            seconds = time.monotonic() - self._failing_since
            self._failing_since = None
            words = f"{self._sink.title} is given the run again, after {seconds:.0f} s; attempts that failed so far: "
            self._tell("info", f"{words}{self.troubles}")

    def _mention(self, passing: Passing) -> None:
        for key in passing.left_out.keys() - self._told:
            self._told.add(key)
            words = f"{passing.left_out[key]} are not passed on to {self._sink.title}"
            self._tell("info", words, key)

    def _tell(self, kind: str, words: str, subject: str = "") -> None:
        self._writer.event(None, time.monotonic() - self._began, kind, words, subject)


class Feeds:
    """All sinks of one run. In a forked child it does nothing.

    Args:
        sinks: The sinks; each run has copies of its own.

    Raises:
        Exception: What a sink raises where it asks the user.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = [copy.copy(sink) for sink in sinks]
        for sink in self._sinks:
            sink.prepare()
        self._feeds: list[Feed] = []
        self._process = os.getpid()

    @property
    def seconds(self) -> float:
        """Processor time that passing on has taken so far."""
        return sum(feed.seconds for feed in self._feeds)

    def start(self, writer: Writer, began: float, at_exit: Callable[[], object]) -> None:
        """Begins to pass on.

        Args:
            writer: Writes the run's log.
            began: When the run did, on the monotonic clock.
            at_exit: What ends the run when the interpreter ends. That must come before what a sink's package does
                then, and so be registered after it.
        """

        def opened() -> None:
            atexit.unregister(at_exit)
            atexit.register(at_exit)

        self._feeds = [Feed(sink, writer, began, opened) for sink in self._sinks]
        for feed in self._feeds:
            feed.start()

    def close(self) -> None:
        """Passes on what is left; a log that is complete stays so."""
        if os.getpid() != self._process:
            return
        for feed in self._feeds:
            feed.stop()
        for feed in self._feeds:
            feed.finish()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
