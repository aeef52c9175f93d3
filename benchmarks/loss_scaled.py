"""What loss-scaled optimizers cost: seconds per optimizer step and per training step, beside torch's and the source's.

All ways train copies of a network in one process, in turn. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import perf_counter, process_time

import torch
import torch.nn.functional as F
from custom_pair import CustomPair
from networks import LOSS_SCALED
from problems import PROBLEMS
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from cockpit.optim import DynamicScale, LossScaledOptimizer, ScaledAdam, ScaledRMSprop, ScaledSGD

SCALE = 2.0**16
LEARNING_RATE = 1e-4
SHORTEST = 2e-3
"""Seconds that are timed at a time: what is over sooner is repeated."""

Make = Callable[[list[nn.Parameter]], Optimizer]


@dataclass(frozen=True)
class Measurement:
    """One way on one network. Times in seconds: medians over all turns.

    Args:
        network: Its name.
        parameters: How many it has.
        optimizer: Which rule.
        way: Who applies it, and how.
        step: Of the optimizer's step, the gradients being there.
        training: Of a whole training step.
        turns: How many turns the medians are of.
    """

    network: str
    parameters: int
    optimizer: str
    way: str
    step: float
    training: float
    turns: int


def ways(rule: str) -> dict[str, tuple[Make, bool]]:
    """What makes an optimizer of a rule, by who applies it, and whether a gradient scaler is to stand between."""
    custom = {"SGD": {}, "RMSprop": {"gamma": 0.9}, "Adam": {"beta": 0.9, "gamma": 0.999}}[rule]
    theirs = {"SGD": torch.optim.SGD, "RMSprop": torch.optim.RMSprop, "Adam": torch.optim.Adam}[rule]
    ours = {"SGD": ScaledSGD, "RMSprop": ScaledRMSprop, "Adam": ScaledAdam}[rule]

    def made(kind: Callable[..., Optimizer], **options: object) -> Make:
        return lambda parameters: kind(parameters, lr=LEARNING_RATE, **options)

    fusable = rule != "RMSprop"  # PyTorch has no kernel for it
    single = {"fused": False} if fusable else {}
    found = {
        "source, plain": (made(CustomPair, **custom), False),
        "source, scaled": (made(CustomPair, scaled=True, **custom), False),
        "torch foreach": (made(theirs, foreach=True), False),
        "cockpit foreach": (made(ours, scale=SCALE, **single), False),
        "torch foreach, GradScaler": (made(theirs, foreach=True), True),
        "cockpit foreach, GradScaler": (made(ours, scale=1.0, **single), True),
        "cockpit foreach, DynamicScale": (made(ours, scale=DynamicScale(1.0), **single), False),
    }
    if fusable:
        found["torch fused"] = made(theirs, fused=True), False
        found["cockpit fused"] = made(ours, scale=SCALE, fused=True), False
        found["torch fused, GradScaler"] = made(theirs, fused=True), True
        found["cockpit fused, GradScaler"] = made(ours, scale=1.0, fused=True), True
        found["cockpit fused, DynamicScale"] = made(ours, scale=DynamicScale(1.0), fused=True), False
    return found


class Training:
    """One way of training.

    Args:
        model: A network of its own.
        make: Makes the optimizer.
        scaled: Whether a gradient scaler stands between loss and optimizer.
        batches: Where the data come from, again and again.
    """

    def __init__(self, model: nn.Module, make: Make, scaled: bool, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.model, self.batches = model, itertools.cycle(batches)
        self.optimizer = make(list(model.parameters()))
        # At a scale of 1 a scaler's pass over the gradients costs the same, and they stay what they are.
        self.scaler = GradScaler("cpu", init_scale=1.0, growth_interval=1 << 30) if scaled else None

    def train(self) -> None:
        """One training step."""
        x, y = next(self.batches)
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        if self.scaler is not None:
            self.scaler.scale(loss).backward()
        elif isinstance(self.optimizer, LossScaledOptimizer):
            self.optimizer.scale(loss).backward()
        elif isinstance(self.optimizer, CustomPair):
            (loss * self.optimizer.loss_scale).backward()
        else:
            loss.backward()
        self.step()

    def step(self) -> None:
        """The optimizer's part of it; may be repeated with the same gradients."""
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()


def measure(name: str, rule: str, options: argparse.Namespace) -> Iterator[Measurement]:
    """All ways to train a network by one rule, in turn."""
    batches, _ = PROBLEMS["mnist_mlp"].batches(8, options.batch_size, options.data)
    trainings = {}
    for way, (make, scaled) in ways(rule).items():
        torch.manual_seed(0)
        trainings[way] = Training(LOSS_SCALED[name](), make, scaled, batches)
    steps = in_turn({way: training.step for way, training in trainings.items()}, trainings, options)
    whole = in_turn({way: training.train for way, training in trainings.items()}, trainings, options)
    for way, training in trainings.items():
        numel = sum(p.numel() for p in training.model.parameters())
        times = (statistics.median(some[way]) for some in (steps, whole))
        yield Measurement(name, numel, rule, way, *times, turns=len(whole[way]))


def in_turn(
    actions: dict[str, Callable[[], None]], trainings: dict[str, Training], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds that each action takes, turn by turn: as many turns as fit into the time, but a few at least."""
    for training in trainings.values():
        for _ in range(3):
            training.train()
    clock = process_time if options.processor_time else perf_counter
    repeats = {way: max(1, round(SHORTEST / timed(action, 1, clock))) for way, action in actions.items()}
    found: dict[str, list[float]] = {way: [] for way in actions}
    began = perf_counter()
    for turn in itertools.count():
        if turn >= options.least_turns and perf_counter() - began > options.seconds:
            return found
        for way, action in actions.items():
            found[way].append(timed(action, repeats[way], clock))
    raise AssertionError


def timed(action: Callable[[], None], repeats: int, clock: Callable[[], float]) -> float:
    """Seconds that an action takes, a mean over repetitions."""
    began = clock()
    for _ in range(repeats):
        action()
    return (clock() - began) / repeats


def table(measurements: Sequence[Measurement]) -> str:
    """The measurements as text, with their ratios to ``torch foreach``."""
    rows = [["network", "parameters", "optimizer", "way", "step µs", "ratio", "training ms", "ratio"]]
    base = {(m.network, m.optimizer): m for m in measurements if m.way == "torch foreach"}
    for m in measurements:
        b = base[m.network, m.optimizer]
        step = [f"{1e6 * m.step:.0f}", f"{m.step / b.step:.2f}"]
        training = [f"{1e3 * m.training:.2f}", f"{m.training / b.training:.2f}"]
        rows.append([m.network, f"{m.parameters:,}", m.optimizer, m.way, *step, *training])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def write_csv(path: Path, measurements: Sequence[Measurement]) -> None:
    """One line per measurement."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Measurement)])
        writer.writeheader()
        writer.writerows(asdict(m) for m in measurements)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=LOSS_SCALED, default=list(LOSS_SCALED), metavar="NAME")
    parser.add_argument(
        "--optimizers", nargs="+", choices=["SGD", "RMSprop", "Adam"], default=["SGD", "RMSprop", "Adam"]
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="for each network and optimizer, twice (default: 5)")
    parser.add_argument("--least-turns", type=int, default=7, help="even if they take longer (default: 7)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    parser.add_argument(
        "--processor-time", action="store_true", help="count this process alone, on a machine that has others to serve"
    )
    parser.add_argument("--data", type=Path, help="folder with mnist/; random data otherwise")
    parser.add_argument("--out", type=Path, help="folder for loss_scaled.csv and its figure")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} CPU threads,")
    print(f"batch {options.batch_size}")
    measurements: list[Measurement] = []
    for name, rule in itertools.product(options.networks, options.optimizers):
        measurements += measure(name, rule, options)
        print(f"{name}, {rule}", file=sys.stderr)
    print(table(measurements))
    if options.out:
        from loss_scaled_figure import draw

        options.out.mkdir(parents=True, exist_ok=True)
        write_csv(options.out / "loss_scaled.csv", measurements)
        draw(options.out / "loss_scaled.csv", options.out)


if __name__ == "__main__":
    main()
