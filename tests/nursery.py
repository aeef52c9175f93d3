"""Processes to be killed: one parent imports what they need, and each is forked from it within milliseconds."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeAlias

from patience import LONG

from cockpit.store.batch import Batch
from cockpit.store.drain import Drain
from cockpit.store.inbox import Inbox

_RECORD = struct.Struct("=iiid")  # short enough for a pipe to take it whole or not at all
_BORN = -(2**31)
_WRITES = 0  # in an attempt's place; their numbers begin with 1
_BEGINS, _ENDS = 0, 1
_QUICK = 0.1  # seconds that a write takes at most while nobody else wants to run

Report: TypeAlias = Callable[[int, int], None]
"""``report(attempt, step)`` says that a step was handed over; below 0, that an attempt begins at ``-1 - step``."""


class Record(NamedTuple):
    """What a child has reported.

    Args:
        attempt: Number of the writer.
        step: As in :data:`Report`.
        moment: When, by the clock that all processes share.
    """

    attempt: int
    step: int
    moment: float


class Nursery:
    """A script that calls :func:`fork_on_demand`, until the end of a ``with`` block.

    Args:
        script: The script.
        setup: Code that is executed before it.

    Attributes:
        records: Of each child by its process id, what it has reported so far; after the block, all of it.
        writes: Of each child that calls :func:`tell_of_writes`, when its writes began and ended.
    """

    def __init__(self, script: Path, setup: str = "") -> None:
        self.records: dict[int, list[Record]] = defaultdict(list)
        self.writes: dict[int, list[Record]] = defaultdict(list)
        self._born: list[int] = []
        self._heard = threading.Condition()
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the nursery is
        own = os.path.dirname(__file__), str(script.parent)
        paths = os.pathsep.join(filter(None, (*own, os.environ.get("PYTHONPATH"))))
        code = f"{setup}\nimport runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
        alone = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._said, env={**os.environ, **alone}, start_new_session=True,
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._listener.join()
        self._process.communicate()
        self._said.close()

    def begin(self, place: str | Path, seed: int) -> int:
        """Process id of a new child."""
        assert self._process.stdin is not None
        with self._heard:
            self._process.stdin.write(json.dumps([str(place), seed]).encode() + b"\n")
            self._process.stdin.flush()
            assert self._heard.wait_for(lambda: self._born, LONG), self.said()
            return self._born.pop()

    def handed_over(self, pid: int, count: int = 1) -> list[Record]:
        """A child's first steps, once it has handed over so many."""

        def steps() -> list[Record]:
            return [record for record in self.records[pid] if record.step >= 0][:count]

        with self._heard:
            assert self._heard.wait_for(lambda: len(steps()) == count, LONG), self.said()
            return steps()

    def kill(self, pid: int) -> float:
        """Kills a child; when that was."""
        moment = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        return moment

    def said(self) -> str:
        """What all of them have written to their standard error stream."""
        self._said.seek(0)
        return self._said.read()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while data := self._process.stdout.read(_RECORD.size):
            pid, *rest = _RECORD.unpack(data)
            record = Record(*rest)
            with self._heard:
                if record.step == _BORN:
                    self._born.append(pid)
                else:
                    (self.writes if record.attempt == _WRITES else self.records)[pid].append(record)
                self._heard.notify()


def starved(records: Sequence[Record], killed: float, pace: float) -> float:
    """Seconds of a process's last three that the system gave to others: nobody can write meanwhile.

    Args:
        records: What it has reported.
        killed: When it was killed.
        pace: Seconds that a step of it takes at most while nobody else wants to run.
    """
    moments = [record.moment for record in records if record.moment > killed - 3.0]
    return sum(max(0.0, later - earlier - pace) for earlier, later in zip(moments, [*moments[1:], killed], strict=True))


def writing(writes: Sequence[Record], killed: float) -> float:
    """Seconds by which a process's writes of its last three took longer than they do on an idle machine.

    Args:
        writes: What it has reported of them.
        killed: When it was killed.
    """
    begins = [record.moment for record in writes if record.step == _BEGINS]
    ends = [record.moment for record in writes if record.step == _ENDS]
    both = zip(begins, [*ends, killed][: len(begins)], strict=True)  # the last one may not have ended
    return sum(max(0.0, min(end, killed) - begin - _QUICK) for begin, end in both if end > killed - 3.0)


def lost(records: Sequence[Record], killed: float, readable: int) -> float:
    """Age of the oldest step that is not in the log, in seconds.

    Args:
        records: What the process has reported.
        killed: When it was killed.
        readable: How many steps are in the log.
    """
    return max((killed - record.moment for record in records if record.step >= readable), default=0.0)


def tell_of_writes(report: Report) -> None:
    """From now on this process reports when its logs' threads begin with a batch, and when they have written it."""
    encoded, written = Drain._encoded, Inbox.written

    def begins(self: Drain) -> Batch:
        report(_WRITES, _BEGINS)
        return encoded(self)

    def ends(self: Inbox) -> None:
        report(_WRITES, _ENDS)
        written(self)

    Drain._encoded, Inbox.written = begins, ends


def fork_on_demand(live: Callable[[str, int, Report], None]) -> None:
    """Forks a child for each line of the standard input, until that ends.

    Args:
        live: What a child does until it is killed, given a place, a seed, and whom to report to.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries them
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                live(*json.loads(line), _report)
            finally:
                os._exit(1)
        os.write(1, _RECORD.pack(pid, 0, _BORN, time.monotonic()))


def _report(attempt: int, step: int) -> None:
    os.write(1, _RECORD.pack(os.getpid(), attempt, step, time.monotonic()))
