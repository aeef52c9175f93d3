"""What a user feels: how much slower training is under a budget, over its first steps.

The same training runs with a cockpit and without, in turns of ten steps, and the times are added up. See README.md
beside this file.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from time import perf_counter, thread_time

import torch
from problems import PROBLEMS, Problem
from results import aligned, write_csv
from torch import Tensor, nn

from cockpit import Cockpit, load_run

TURN = 10  # steps: the caches of a training that runs alone
ONCE = 2
"""Steps that are counted apart: the first readings, with what happens once in them, such as compiling."""


@dataclass(frozen=True)
class Measurement:
    """One training under a budget. Times in seconds.

    Args:
        problem: Name of the problem.
        instruments: A configuration.
        budget: The slowdown that is allowed.
        steps: Of the training, the first ones included.
        plain: A step without a cockpit, on average.
        once: What the first steps took longer.
        slowdown: What all later steps took longer, over what they take without a cockpit.
        cpu: The same in processor time, that of the log's thread added: another process has less of a part in it.
        told: What the cockpit says that it costs.
        readings: How often instruments were read: the most and the least.
    """

    problem: str
    instruments: str
    budget: float
    steps: int
    plain: float
    once: float
    slowdown: float
    cpu: float
    told: float | None
    readings: str


class Loop:
    """A training that keeps the times of its steps."""

    def __init__(self, problem: Problem, batches: Sequence[tuple[Tensor, Tensor]], device: torch.device) -> None:
        torch.manual_seed(0)
        self.model = problem.model().to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=problem.learning_rate)
        self.loss_fn, self.device = nn.CrossEntropyLoss(), device
        self.batches: Iterator[tuple[Tensor, Tensor]] = cycle(batches)
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def step(self, cockpit: Cockpit | None = None) -> None:
        """One training step, under ``cockpit`` where there is one."""
        x, y = next(self.batches)
        self._wait()
        wall, cpu = perf_counter(), thread_time()
        if cockpit is None:
            self._update(x, y)
        else:
            with cockpit.step():
                self._update(x, y)
        self._wait()
        self.wall.append(perf_counter() - wall)
        self.cpu.append(thread_time() - cpu)

    def _update(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        self.loss_fn(self.model(x), y).backward()
        self.optimizer.step()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure(problem: Problem, options: argparse.Namespace) -> Measurement:
    """Trains twice, ten steps at a time in turn."""
    device = torch.device(options.device)
    batches, _ = problem.batches(8, options.batch_size, options.data)
    batches = [(x.to(device), y.to(device)) for x, y in batches]
    plain, watched = (Loop(problem, batches, device) for _ in range(2))
    for _ in range(5):
        plain.step()
    plain.wall.clear()
    plain.cpu.clear()
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        with Cockpit(
            watched.model, watched.optimizer, instruments=options.instruments, budget=options.budget, run=run
        ) as cockpit:
            while len(watched.wall) < options.steps:
                for _ in range(TURN):
                    plain.step()
                for _ in range(TURN):
                    watched.step(cockpit)
            cockpit.flush()
            log, told = cockpit._writer.seconds, cockpit.overhead
        header, found = load_run(run).header, load_run(run)
        counts = [len(found[name].steps) for name in header.instruments if name in found]
    once = sum(watched.wall[:ONCE]) - sum(plain.wall[:ONCE])
    wall, cpu = (sum(times[ONCE:]) for times in (plain.wall, plain.cpu))
    return Measurement(
        problem=problem.name,
        instruments=options.instruments,
        budget=options.budget,
        steps=len(watched.wall),
        plain=wall / (len(watched.wall) - ONCE),
        once=once,
        slowdown=sum(watched.wall[ONCE:]) / wall - 1,
        cpu=(sum(watched.cpu[ONCE:]) + log) / cpu - 1,
        told=told,
        readings=f"{max(counts)} to {min(counts)}",
    )


def table(measurements: Sequence[Measurement]) -> str:
    """The measurements as text."""
    rows = [["problem", "plain ms", "once ms", "slowdown", "in CPU time", "cockpit.overhead", "readings"]]
    for m in measurements:
        told = "" if m.told is None else f"{m.told:+.1%}"
        times = [f"{1e3 * m.plain:.2f}", f"{1e3 * m.once:.0f}"]
        rows.append([m.problem, *times, f"{m.slowdown:+.1%}", f"{m.cpu:+.1%}", told, m.readings])
    return aligned(rows, ">")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), metavar="NAME")
    parser.add_argument("--instruments", default="economy", help="a configuration's name (default: economy)")
    parser.add_argument("--budget", type=float, default=0.1, help="slowdown that is allowed (default: 0.1)")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    parser.add_argument("--data", type=Path, help="folder with cifar10_subset.npz and mnist/; random data otherwise")
    parser.add_argument("--csv", type=Path, help="where to write the measurements")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    hardware = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {hardware}, batch {options.batch_size},")
    print(f"{options.instruments}, {options.steps} steps under a budget of {options.budget:.0%}")
    measurements = []
    for name in options.problems:
        measurements.append(measure(PROBLEMS[name], options))
        print(f"{name}: {measurements[-1].slowdown:+.1%}", file=sys.stderr)
    print(table(measurements))
    if options.csv:
        write_csv(options.csv, measurements)


if __name__ == "__main__":
    main()
