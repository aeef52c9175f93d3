"""Writes runs of many kinds until it is killed, without torch: see :mod:`nursery`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
from nursery import Report, fork_on_demand, tell_of_writes

from cockpit.reading import Histogram, Reading
from cockpit.store import Header, Writer, encoder

PACE = 0.006  # seconds between steps
KINDS = ("plain", "chunks", "attempts", "arrays")
LENGTH, BACK = 60, 20  # steps of an attempt, and how many of them the next one does again

EDGES = np.arange(51.0)


def value(attempt: int, step: int) -> float:
    """Tells the step and who wrote it."""
    return 1e6 * attempt + step


def readings(attempt: int, step: int, kind: str) -> dict[str, Reading]:
    number = value(attempt, step)
    histogram = Histogram(np.arange(50) + step, EDGES)
    arrays = {"a": np.full((3, 4), number)} if kind == "arrays" else {}
    return {
        "loss": Reading(number, {"a": number, "b": None}, {"part": -number}),
        "hist": Reading(histogram, {"a": histogram}, arrays=arrays),
    }


def pieces() -> Iterator[bytes]:
    yield from (bytes(100_000) for _ in range(1000))


def live(place: str, seed: int, report: Report) -> None:
    tell_of_writes(report)
    kind = KINDS[seed % len(KINDS)]
    if kind in ("chunks", "attempts"):
        encoder._TAIL, encoder._LENGTH = (16, 16), (8, 8)  # chunks all the time
    attempt, step = 0, 0
    while True:
        attempt, first = attempt + 1, max(0, step - BACK)
        report(attempt, -1 - first)
        writer = Writer(place, Header("run", time.time()), resume=first if attempt > 1 else False)
        if kind == "arrays":
            writer.keep("start", pieces())
        for step in range(first, first + LENGTH) if kind == "attempts" else itertools.count():
            writer.put(step, 0.01 * step, readings(attempt, step, kind))
            report(attempt, step)
            if step % 10 == 0:
                writer.scalars(step, 0.01 * step, {"valid/loss": float(step)})
                writer.event(step, 0.01 * step, "evaluation", "logged valid/loss")
                writer.document("coverage", {"share": 1.0, "step": step})
            time.sleep(PACE)
        step += 1
        writer.close()


if __name__ == "__main__":
    fork_on_demand(live)
