"""Seconds per training step with the cockpit against the same loop without it.

Baseline and tracked steps alternate in one process, a tracking period at a time, and medians over the periods are
compared: a machine that slows down slows both. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import cycle
from pathlib import Path
from time import perf_counter

import torch
from problems import PROBLEMS, Problem
from torch import Tensor, nn

from cockpit import Cockpit, every

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Measurement:
    """One row of the table; times in seconds, medians over the periods."""

    problem: str
    data: str
    device: str
    instruments: str
    track_interval: int
    batch_size: int
    baseline: float
    tracked: float

    @property
    def ratio(self) -> float:
        """How many times longer a step takes with the cockpit, averaged over a tracking period."""
        return self.tracked / self.baseline

    @property
    def extra(self) -> float:
        """Additional seconds for each tracking period."""
        return (self.tracked - self.baseline) * self.track_interval


class Loop:
    """A training loop that is timed a few steps at a time, with a cockpit or without."""

    def __init__(self, problem: Problem, batches: Sequence[Batch], device: torch.device) -> None:
        torch.manual_seed(0)
        self.model = problem.model().to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=problem.learning_rate)
        self.loss_fn = nn.CrossEntropyLoss()
        self.device = device
        self.batches: Iterator[Batch] = cycle(batches)

    def step(self) -> None:
        """One ordinary training step."""
        x, y = next(self.batches)
        self.optimizer.zero_grad()
        self.loss_fn(self.model(x), y).backward()
        self.optimizer.step()

    def seconds(self, steps: int, cockpit: Cockpit | None = None) -> float:
        """Mean seconds per step over ``steps`` steps, under ``cockpit`` where there is one."""
        self._wait()
        start = perf_counter()
        for _ in range(steps):
            if cockpit is None:
                self.step()
            else:
                with cockpit.step():
                    self.step()
        self._wait()
        return (perf_counter() - start) / steps

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure(problem: Problem, interval: int, options: argparse.Namespace) -> Measurement:
    """Alternate ``options.periods`` tracking periods with as many of the plain loop, after ``options.warmup``."""
    device = torch.device(options.device)
    batches, source = problem.batches(16, options.batch_size, options.data)
    batches = [(x.to(device), y.to(device)) for x, y in batches]
    plain, tracked = (Loop(problem, batches, device) for _ in range(2))
    times: list[tuple[float, float]] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        Cockpit(
            tracked.model,
            tracked.optimizer,
            tracked.loss_fn,
            instruments=options.instruments,
            track=every(interval),
            run=Path(directory) / "run",
        ) as cockpit,
    ):
        for _ in range(options.warmup + options.periods):
            times.append((plain.seconds(interval), tracked.seconds(interval, cockpit)))
    baseline, with_cockpit = (statistics.median(column) for column in zip(*times[options.warmup :], strict=True))
    return Measurement(
        problem.name,
        source,
        options.device,
        options.instruments,
        interval,
        options.batch_size,
        baseline,
        with_cockpit,
    )


def reference_ratios(path: Path, device: str) -> dict[tuple[str, str, int], float]:
    """Ratios of a table of published or measured figures, by problem, configuration and track interval.

    Raises:
        ValueError: If the table lacks a column.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
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
    """The measurements as text, with the reference ratios beside them."""
    head = ["problem", "every", "baseline ms", "tracked ms", "ratio", "extra ms per period", "data", *references]
    rows = [head]
    for m in measurements:
        others = (ratios.get((m.problem, m.instruments, m.track_interval)) for ratios in references.values())
        rows.append(
            [m.problem, str(m.track_interval)]
            + [f"{1e3 * m.baseline:.2f}", f"{1e3 * m.tracked:.2f}", f"{m.ratio:.2f}", f"{1e3 * m.extra:.2f}", m.data]
            + ["" if other is None else f"{other:.2f}" for other in others]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def write_csv(path: Path, measurements: Sequence[Measurement]) -> None:
    """One line per measurement; times in seconds."""
    with path.open("w", newline="") as file:
        names = [*(field.name for field in fields(Measurement)), "ratio", "extra"]
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for m in measurements:
            writer.writerow({**asdict(m), "ratio": m.ratio, "extra": m.extra})


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), metavar="NAME")
    parser.add_argument("--instruments", default="economy", help="a configuration's name (default: economy)")
    parser.add_argument("--intervals", nargs="+", type=int, default=[1, 16], help="track every so many steps")
    parser.add_argument("--periods", type=int, default=20, help="tracking periods that are measured")
    parser.add_argument("--warmup", type=int, default=3, help="tracking periods before that, not counted")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    parser.add_argument("--data", type=Path, help="folder with cifar10_subset.npz and mnist/; random data otherwise")
    parser.add_argument("--reference", nargs="+", type=Path, default=[], help="tables of figures to show beside these")
    parser.add_argument("--csv", type=Path, help="where to write the measurements")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    references = {path.stem: reference_ratios(path, options.device) for path in options.reference}
    hardware = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {hardware}, batch {options.batch_size},")
    print(f"SGD, {options.instruments}, medians over {options.periods} periods")
    measurements = []
    for name in options.problems:
        for interval in options.intervals:
            measurements.append(measure(PROBLEMS[name], interval, options))
            print(f"{name}, every {interval}: {measurements[-1].ratio:.2f} times the baseline", file=sys.stderr)
    print(table(measurements, references))
    if options.csv:
        write_csv(options.csv, measurements)


if __name__ == "__main__":
    main()
