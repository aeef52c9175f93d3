"""The same quantities in TensorBoard's hands: its writer, its reader and its server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from long_runs import KEYS, METRICS, Stretch
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

TAGS = (*KEYS, *METRICS)
KEPT = 1000  # points that it keeps of a series, as Cockpit does of a curve


class Log:
    """TensorBoard's writer, an event for every number as ``SummaryWriter.add_scalar`` makes it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._writer = EventFileWriter(str(directory), max_queue_size=1000, flush_secs=1)

    def ready(self, some: Stretch, at: int) -> Callable[[], None]:
        """Hands over all numbers of one step, as the script has them."""
        step, seconds = int(some.steps[at]), float(some.times[at])
        numbers = dict(zip(TAGS, some.values[at].tolist(), strict=True))

        def put() -> None:
            for tag, value in numbers.items():
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                self._writer.add_event(Event(wall_time=seconds, step=step, summary=summary))

        return put

    def put_together(self, some: Stretch, at: int) -> None:
        """The same as one event: the least work that its format allows."""
        values = zip(TAGS, some.values[at].tolist(), strict=True)
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values])
        self._writer.add_event(Event(wall_time=float(some.times[at]), step=int(some.steps[at]), summary=summary))

    def flush(self) -> None:
        """Waits until all is in the file."""
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def size(self) -> int:
        """Bytes."""
        return sum(file.stat().st_size for file in self.directory.iterdir())


def read(directory: Path) -> float:
    """Seconds until its reader holds a thousand points of each series."""
    began = time.perf_counter()
    accumulator = EventAccumulator(str(directory), size_guidance={SCALARS: KEPT})
    accumulator.Reload()
    for tag in TAGS:
        accumulator.Scalars(tag)
    return time.perf_counter() - began


class Server:
    """TensorBoard, serving one run.

    Attributes:
        loading: Seconds from its start until it answers with the last step of a series.
        answering: Seconds that it then takes to answer with all series, one after the other.
        memory: Bytes that it and the process which loads for it hold, resident.
    """

    def __init__(self, url: str, process: int, last: int, patience: float) -> None:
        began = time.perf_counter()
        while last not in _steps(url, TAGS[-1]):
            if time.perf_counter() - began > patience:
                raise TimeoutError(f"TensorBoard has not loaded its log in {patience:.0f} s")
            time.sleep(0.02)
        self.loading = time.perf_counter() - began
        began = time.perf_counter()
        for tag in TAGS:
            _steps(url, tag)
        self.answering = time.perf_counter() - began
        self.memory = sum(_resident(each) for each in _family(process))


@contextmanager
def serving(directory: Path) -> Iterator[tuple[str, int]]:
    """TensorBoard on a free port: its address and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(directory), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--reload_interval", "5"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _steps(url: str, tag: str) -> list[int]:
    """The steps of a series, as far as they are loaded."""
    try:
        with urlopen(f"{url}/data/plugin/scalars/scalars?run=.&tag={quote(tag, safe='')}") as answer:
            return [step for _, step, _ in json.load(answer)]
    except URLError:  # not yet listening, or not yet loaded
        return []


def _family(process: int) -> list[int]:
    """A process and those that it has started."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(each for child in children for each in _family(int(child)))]


def _resident(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
