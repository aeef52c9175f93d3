"""What logging costs a training, and how much can be logged: Cockpit's writer and TensorBoard's, in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time, thread_time

import numpy as np
from long_runs import KEYS, METRICS, PACE, Stretch, header, stretch
from tensorboard_logs import Log as TensorBoardLog

from cockpit.store import Writer

TURN = 200  # steps of one writer before the other's turn
SERIES = len(KEYS) + len(METRICS)


class CockpitLog:
    """Cockpit's writer, as a cockpit uses it: readings, and the script's metrics after them."""

    def __init__(self, directory: Path) -> None:
        self._writer = Writer(directory, header(directory.name))

    def ready(self, some: Stretch, at: int) -> Callable[[], None]:
        """Hands over all numbers of one step, as instruments and the script have made them."""
        step, seconds = int(some.steps[at]), float(some.times[at])
        readings, metrics = some.readings(at), some.metrics(at)

        def put() -> None:
            self._writer.put(step, seconds, readings)
            self._writer.scalars(step, seconds, metrics)

        return put

    def flush(self) -> None:
        """Waits until all is in the file."""
        if not self._writer.flush(60.0):
            raise TimeoutError(f"{self._writer.path} takes too long")

    def close(self) -> None:
        self._writer.close()
        if self._writer.dropped:
            raise RuntimeError(f"{self._writer.dropped} calls were dropped: what was measured is not all of it")

    def size(self) -> int:
        """Bytes."""
        return Path(str(self._writer.path)).stat().st_size


@dataclass(frozen=True)
class Writing:
    """One writer's figures.

    Args:
        rate: Points a second, from the first one handed over to the last one in the file.
        bytes_per_point: Of the closed file.
        step: Seconds of the training thread at each step, of the median turn.
        behind: Seconds of the other threads at each step.
    """

    rate: float
    bytes_per_point: float
    step: float
    behind: float


def measure(directory: Path, steps: int, paced: int) -> dict[str, Writing]:
    """Both writers log the same numbers, first as fast as they can, then at the pace of a training.

    Args:
        directory: Where to.
        steps: How many as fast as they can.
        paced: How many at the pace of a training.
    """
    logs = {"Cockpit": CockpitLog(directory / "cockpit"), "TensorBoard": TensorBoardLog(directory / "tensorboard")}
    seconds = dict.fromkeys(logs, 0.0)
    for first in range(0, steps, TURN):
        some = stretch(first, min(TURN, steps - first))
        for name, log in logs.items():
            began = perf_counter()
            for at in range(len(some.steps)):
                log.ready(some, at)()
            log.flush()
            seconds[name] += perf_counter() - began
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in logs}
    for first in range(steps, steps + paced, TURN):
        for name, log in logs.items():
            costs[name].append(_at_a_pace(log, stretch(first, min(TURN, steps + paced - first))))
    for log in logs.values():
        log.close()
    points = SERIES * (steps + paced)
    return {
        name: Writing(
            SERIES * steps / seconds[name],
            log.size() / points,
            statistics.median(own for own, _ in costs[name]),
            statistics.median(others for _, others in costs[name]),
        )
        for name, log in logs.items()
    }


def _at_a_pace(log: CockpitLog | TensorBoardLog, some: Stretch) -> tuple[float, float]:
    """Processor time of a step in the training's thread, and in all others, with a training of ten milliseconds."""
    numbers = np.linspace(0, 1, 20_000)
    spent, began, whole = 0.0, thread_time(), process_time()
    for at in range(len(some.steps)):
        step_ends = perf_counter() + PACE
        put = log.ready(some, at)
        before = thread_time()
        put()
        spent += thread_time() - before
        while perf_counter() < step_ends:
            np.sqrt(numbers)
    log.flush()
    others = (process_time() - whole) - (thread_time() - began)
    return spent / len(some.steps), others / len(some.steps)
