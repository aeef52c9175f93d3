"""Seconds per training step and peak memory: alone, under Cockpit and under f-dangel/cockpit, in one run.

Every loop has a process of its own. They take turns, one tracking period each, and ratios are taken turn by turn: a
machine that slows down slows them all. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from figures import draw
from loops import CONFIGURATIONS, Job
from problems import PROBLEMS, Problem
from processes import Worker, environment_of
from results import aligned, read_csv, write_csv

from cockpit import instruments

BATCHES = 8

VARIANTS = (
    "HessTrace:curvature=ggn",
    "HessTrace:curvature=hutchinson",
    "HessTrace:curvature=hessian",
    "TICDiag:curvature=ggn",
    "HessMaxEV:tol=0.01,max_products=30",
)
"""Settings other than the default that are measured with the instruments one by one."""


@dataclass(frozen=True)
class Measurement:
    """One row of the table. Times in seconds, memory in bytes, medians over the turns.

    Args:
        problem: Name of the problem.
        data: Where its images come from.
        device: ``cpu`` or ``cuda``.
        threads: Of torch.
        batch_size: Samples in a batch.
        tracked: A configuration, or one instrument.
        interval: One step in so many is tracked.
        by: ``cockpit`` or ``peer``.
        baseline: A step of the plain loop.
        seconds: A step of the watched one, averaged over a tracking period.
        ratio: How many times longer the watched one takes.
        extra: Additional seconds of a whole tracking period.
        baseline_peak: Peak memory of the plain loop's process.
        peak: Peak memory of the watched one's.
        turns: How many turns were measured.
    """

    problem: str
    data: str
    device: str
    threads: int
    batch_size: int
    tracked: str
    interval: int
    by: str
    baseline: float
    seconds: float
    ratio: float
    extra: float
    baseline_peak: int
    peak: int
    turns: int


def measure(
    problem: Problem, tracked: str, options: argparse.Namespace, batches: Path, source: str
) -> Iterator[Measurement]:
    """All intervals of one configuration or instrument on one problem.

    Yields:
        A row for each interval and each of the two cockpits.
    """
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for kind, python in _kinds(tracked, options):
            log = stack.enter_context(tempfile.TemporaryDirectory())
            job = Job(problem.name, tracked, str(batches), problem.learning_rate, options.device, f"{log}/run")
            workers[kind] = Worker(kind, job, python, options.threads)
            stack.callback(workers[kind].close)
        for _ in range(options.warmup):
            for worker in workers.values():
                worker.seconds(2)
        for interval in options.intervals if tracked in CONFIGURATIONS else [1]:
            turns = list(_turns(workers, interval, options))
            for by in list(workers)[1:]:
                pairs = [(turn["plain"], turn[by]) for turn in turns]
                yield Measurement(
                    problem=problem.name,
                    data=source,
                    device=options.device,
                    threads=workers[by].threads,
                    batch_size=options.batch_size,
                    tracked=tracked,
                    interval=interval,
                    by=by,
                    baseline=statistics.median(plain for plain, _ in pairs) / interval,
                    seconds=statistics.median(watched for _, watched in pairs) / interval,
                    ratio=statistics.median(watched / plain for plain, watched in pairs),
                    extra=statistics.median(watched - plain for plain, watched in pairs),
                    baseline_peak=workers["plain"].peak,
                    peak=workers[by].peak,
                    turns=len(turns),
                )


def _kinds(tracked: str, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    yield "plain", sys.executable
    yield "cockpit", sys.executable
    if options.peer and (tracked in CONFIGURATIONS or tracked in options.peer_instruments):
        yield "peer", options.peer


def _turns(workers: dict[str, Worker], interval: int, options: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Each worker in turn, until the time or the number of turns is used up.

    A turn is a tracking period, or as many as fit into ``options.turn``: the first steps after the turns of others
    find caches and threads cold, as no training does that has the machine to itself. Where one takes longer than
    ``options.piece``, the workers take turns within it: a machine is not as fast in one minute as in the next.
    """
    one = {kind: interval * worker.seconds(1) for kind, worker in workers.items()}  # at most
    periods = {kind: max(1, round(options.turn / seconds)) for kind, seconds in one.items()}
    began = time.monotonic()
    for turn in range(options.turns):
        if turn >= options.least_turns and time.monotonic() - began > options.seconds:
            return
        yield _turn(workers, interval, periods, max(1, round(options.piece * interval / one["plain"])))


def _turn(workers: dict[str, Worker], interval: int, periods: dict[str, int], piece: int) -> dict[str, float]:
    """Seconds of one tracking period by each worker, in pieces of so many steps where that is less than a period."""
    if piece >= interval:
        return {kind: worker.seconds(interval, periods[kind]) for kind, worker in workers.items()}
    taken = dict.fromkeys(workers, 0.0)
    for first in range(0, interval, piece):
        for kind, worker in workers.items():
            taken[kind] += worker.seconds(min(piece, interval - first), tracked=not first)
    return taken


def peer_instruments(python: str) -> list[str]:
    """Classes that the peer can track, found in its own environment.

    Raises:
        subprocess.CalledProcessError: If the environment lacks it.
    """
    code = "from cockpit import quantities as q; print(*[n for n in dir(q) if isinstance(getattr(q, n), type)])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env=environment_of("peer"))
    return done.stdout.split()


def store_batches(problem: Problem, options: argparse.Namespace, path: Path) -> str:
    """Writes the batches that all loops train on; returns in words where they come from."""
    batches, source = problem.batches(BATCHES, options.batch_size, options.data)
    x, y = zip(*batches, strict=True)
    torch.save({"x": torch.stack(x), "y": torch.stack(y)}, path)
    return source


def reference_ratios(path: Path, device: str) -> dict[tuple[str, str, int], float]:
    """Ratios of a table of published or measured figures, by problem, configuration and track interval.

    Raises:
        ValueError: If the table lacks a column.
    """
    rows = read_csv(path)
    try:
        return {
            (row["problem"], row.get("configuration") or row["tracked"], int(row["track_interval"])): float(
                row["overhead"]
            )
            for row in rows
            if row["device"].split()[0] == device and row.get("table", "grid") == "grid"
        }
    except KeyError as error:
        raise ValueError(f"{path} has no column {error}") from error


def table(measurements: Sequence[Measurement], references: dict[str, dict[tuple[str, str, int], float]]) -> str:
    """The measurements as text: Cockpit's, the peer's beside it, and reference ratios."""
    head = ["problem", "tracked", "every", "plain ms", "ratio", "extra ms", "MB"]
    head += ["peer ratio", "peer extra ms", "peer MB", "of peer's extra", *references]
    peers = {(m.problem, m.tracked, m.interval): m for m in measurements if m.by == "peer"}
    rows = [head]
    for m in measurements:
        if m.by == "peer":
            continue
        key = (m.problem, m.tracked, m.interval)
        row = [m.problem, m.tracked, str(m.interval), f"{1e3 * m.baseline:.2f}", *_figures(m)]
        peer = peers.get(key)
        row += ["", "", "", ""] if peer is None else [*_figures(peer), f"{m.extra / peer.extra:.3f}"]
        rows.append(row + [f"{ratios[key]:.2f}" if key in ratios else "" for ratios in references.values()])
    return aligned(rows, ">")


def _figures(m: Measurement) -> list[str]:
    return [f"{m.ratio:.2f}", f"{1e3 * m.extra:.2f}", f"{m.peak / 2**20:.0f}"]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), metavar="NAME")
    parser.add_argument("--tracked", nargs="+", default=list(CONFIGURATIONS), help="configurations and instruments")
    parser.add_argument("--each", action="store_true", help="every instrument alone as well, tracked at every step")
    parser.add_argument(
        "--intervals", nargs="+", type=int, default=[1, 4, 16, 64, 256], help="one tracked step in so many"
    )
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter of an environment with f-dangel/cockpit 1.0.2")
    parser.add_argument("--turn", type=float, default=0.1, help="seconds of a turn, about; at least one period")
    parser.add_argument(
        "--piece", type=float, default=1.0, help="seconds after which another's turn comes in a long period"
    )
    parser.add_argument("--turns", type=int, default=20, help="turns that are measured at most")
    parser.add_argument("--least-turns", type=int, default=3, help="and at least")
    parser.add_argument("--seconds", type=float, default=30, help="after this time no further turn is begun")
    parser.add_argument("--warmup", type=int, default=3, help="tracking periods of two steps before that, not counted")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    parser.add_argument("--data", type=Path, help="folder with cifar10_subset.npz and mnist/; random data otherwise")
    parser.add_argument("--reference", nargs="+", type=Path, default=[], help="tables of figures to show beside these")
    parser.add_argument("--out", type=Path, help="folder for overhead.csv and the figures")
    options = parser.parse_args(argv)
    options.peer_instruments = peer_instruments(options.peer) if options.peer else []
    return options


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    references = {path.stem: reference_ratios(path, options.device) for path in options.reference}
    hardware = torch.cuda.get_device_name() if options.device == "cuda" else f"{os.cpu_count()} CPUs"
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {hardware}, batch {options.batch_size}, SGD")
    tracked = [*options.tracked, *(_every_instrument() if options.each else ())]
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory() as directory:
        for name in options.problems:
            batches = Path(directory) / f"{name}.pt"
            source = store_batches(PROBLEMS[name], options, batches)
            for what in tracked:
                for m in measure(PROBLEMS[name], what, options, batches, source):
                    measurements.append(m)
                    print(f"{name}, {what}, every {m.interval}, {m.by}: {m.ratio:.2f}", file=sys.stderr, flush=True)
                if options.out:  # whatever was measured stays, if somebody stops a long run
                    options.out.mkdir(parents=True, exist_ok=True)
                    write_csv(options.out / "overhead.csv", measurements)
    print(table(measurements, references))
    if options.out:
        draw(options.out / "overhead.csv", options.out)


def _every_instrument() -> Iterable[str]:
    return [*instruments.__all__, *VARIANTS]


if __name__ == "__main__":
    main()
