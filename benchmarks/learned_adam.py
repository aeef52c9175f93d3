"""LearnedAdam as it comes beside SGD and AdamW with tuned learning rates: losses after training, on tasks it never saw.

All trainings of a task with one rule, rates and seeds, run side by side, stacked. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import csv
import math
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import process_time

import torch
from learned_adam_table import best, print_table
from learned_tasks import CELLS, Cell
from networks import LOSS_SCALED
from results import Row, read_csv
from torch import Tensor, nn
from tuned_rules import GRIDS, SCHEDULES, TunedRule

from cockpit.optim.learned import LearnedAdam, Rule, Signals, Task, Tensors, Weights
from cockpit.optim.learned.kinds import kinds_in, marked
from cockpit.optim.learned.learned_adam import SHIPPED, LearnedAdamRule

TUNING, TRIAL = "tuning", "trial"
SEEDS = {TUNING: 1, TRIAL: 2}
"""Of what chance decides: rates are not chosen on the trainings that are compared."""

COPIES = {TUNING: 3, TRIAL: 10}
EVALUATED = {"pieces": 4, "size": 256}
LEARNED = "LearnedAdam"


@dataclass(frozen=True)
class Result:
    """One training.

    Args:
        cell: Name of the task.
        steps: How many it took.
        optimizer: Its name.
        schedule: Of the learning rate; of learned steps, ``learned``.
        rate: The learning rate, 1 for learned steps.
        part: Whether it was for choosing a learning rate, or for comparing.
        number: Of the training; those of one number start alike and see the same mini-batches.
        train_loss: After training, on 1024 samples of those it was trained on; NaN where it diverged.
        valid_loss: The same, on others.
        mean_loss: Of mini-batches, over the training.
        seconds: Of processor time, its share of those that ran beside it.
    """

    cell: str
    steps: int
    optimizer: str
    schedule: str
    rate: float
    part: str
    number: int
    train_loss: float
    valid_loss: float
    mean_loss: float
    seconds: float


class Stack:
    """Trainings of one task by one rule, at several settings each.

    Args:
        rule: What trains.
        meta: Its meta-parameters, stacked: one for each setting.
        task: What is trained.
        copies: How many at each setting.
        seed: Of what chance decides, the same at all settings.
    """

    def __init__(self, rule: Rule, meta: Tensors, task: Task, copies: int, seed: int) -> None:
        self.rule, self.meta, self.task = rule, meta, task
        self.generator = torch.Generator().manual_seed(seed)
        params, self.data = task.sample(copies, self.generator)
        network: nn.Module = task.network()  # type: ignore[attr-defined]
        kinds = kinds_in(network)
        self.names = {marked(name, kinds[p]): name for name, p in network.named_parameters()}
        settings = len(next(iter(meta.values())))
        self.params = {name: params[plain].expand(settings, *params[plain].shape) for name, plain in self.names.items()}

    @torch.no_grad()
    def train(self, steps: int) -> Tensor:
        """Trains, and returns losses: after training, of training samples and others, and the mean. Shape
        ``[3, settings, copies]``."""
        state = torch.func.vmap(torch.func.vmap(self.rule.init))(self.params)
        horizon, total = torch.tensor(float(steps)), torch.zeros(())
        update = torch.func.vmap(torch.func.vmap(self._update, (None, 0, 0, 0, None)), (0, 0, 0, None, None))
        for number in range(steps):
            batch = self.task.batch(self.data, self.generator)
            clock = torch.tensor([float(number), float(horizon)])
            losses, self.params, state = update(self.meta, self.params, state, batch, clock)
            total = total + losses
        return torch.stack([*self._evaluated(), total / steps])

    def _update(self, meta: Tensors, params: Tensors, state: Tensors, batch: Tensors, clock: Tensor) -> object:
        gradients, loss = torch.func.grad_and_value(lambda p: self.task.loss(self._plain(p), batch))(params)
        unknown = torch.full_like(loss, math.nan)
        return loss, *self.rule.update(meta, gradients, params, state, Signals(*clock, loss, unknown))

    def _evaluated(self) -> Iterator[Tensor]:
        size, self.task.batch_size = self.task.batch_size, EVALUATED["size"]  # type: ignore[attr-defined]
        chance = torch.Generator().manual_seed(0)
        batches = [self.task.batch(self.data, chance) for _ in range(EVALUATED["pieces"])]
        self.task.batch_size = size  # type: ignore[attr-defined]
        for loss in (self.task.loss, self.task.valid_loss):
            one = torch.func.vmap(lambda p, batch, loss=loss: loss(self._plain(p), batch))
            of_settings = [
                torch.stack([one({n: p[k] for n, p in self.params.items()}, batch) for batch in batches]).mean(0)
                for k in range(len(next(iter(self.params.values()))))
            ]
            yield torch.stack(of_settings)

    def _plain(self, params: Tensors) -> Tensors:
        return {self.names[name]: p for name, p in params.items()}


def trained(
    cell: Cell, task: Task, rule: Rule, metas: Sequence[Tensors], rates: Sequence[float], part: str
) -> Iterator[Result]:
    """Results of trainings at several settings, :data:`COPIES` each."""
    began = process_time()
    stacked = {name: torch.stack([meta[name] for meta in metas]) for name in metas[0]}
    found = Stack(rule, stacked, task, COPIES[part], SEEDS[part]).train(cell.steps)
    seconds = (process_time() - began) / found[0].numel()
    schedule = rule.schedule if isinstance(rule, TunedRule) else "learned"
    for k, rate in enumerate(rates):
        for number in range(COPIES[part]):
            losses = [loss if math.isfinite(loss) else math.nan for loss in found[:, k, number].tolist()]
            yield Result(cell.name, cell.steps, rule.name, schedule, rate, part, number, *losses, seconds)


def tuned(cell: Cell, task: Task, kind: type[TunedRule], schedule: str, before: Sequence[Row]) -> Iterator[Result]:
    """A grid of learning rates, and then trials of the best, and of those that were the best in the first task."""
    rule = kind(schedule=schedule)
    grid = list(trained(cell, task, rule, [{"lr": torch.tensor(rate)} for rate in GRIDS[kind]], GRIDS[kind], TUNING))
    yield from grid
    rows = [{name: str(value) for name, value in asdict(result).items()} for result in grid]
    first = [row for row in before if row["cell"] == next(iter(CELLS))] or rows
    chosen = {best(some, rule.name, schedule, loss) for some in (rows, first) for loss in ("train_loss", "valid_loss")}
    rates = sorted(chosen)
    yield from trained(cell, task, rule, [{"lr": torch.tensor(rate)} for rate in rates], rates, TRIAL)


def measured(cell: Cell, options: argparse.Namespace, before: Sequence[Row]) -> Iterator[Result]:
    """All of a task."""
    task = cell.task(options.data)
    weights = Weights.load(options.weights, LearnedAdamRule)
    yield from trained(cell, task, weights.rule, [weights.meta], [1.0], TRIAL)
    for kind in GRIDS:
        for schedule in SCHEDULES:
            yield from tuned(cell, task, kind, schedule, before)


def step_times(network: nn.Module, seconds: float = 3.0) -> dict[str, float]:
    """Median processor time of an optimizer's step, the gradients being there; the optimizers take turns."""
    for p in network.parameters():
        p.grad = torch.randn_like(p)
    parameters = list(network.parameters())
    steps: dict[str, Callable[[], object]] = {
        "SGD foreach": torch.optim.SGD(parameters, lr=1e-9, momentum=0.9, foreach=True).step,
        "AdamW foreach": torch.optim.AdamW(parameters, lr=1e-9, foreach=True).step,
        "AdamW fused": torch.optim.AdamW(parameters, lr=1e-9, fused=True).step,
        LEARNED: LearnedAdam(network.named_parameters(), total_steps=1000).step,
    }
    found: dict[str, list[float]] = {name: [] for name in steps}
    ends = process_time() + seconds
    while process_time() < ends or len(found[LEARNED]) < 5:
        for name, step in steps.items():
            began = process_time()
            step()
            found[name].append(process_time() - began)
    return {name: statistics.median(times) for name, times in found.items()}


def append(path: Path, results: Iterable[Result]) -> None:
    """Writes what is there to a table, all at once."""
    rows = [asdict(result) for result in results]
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Result)])
        if new:
            writer.writeheader()
        writer.writerows(rows)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with mnist/, cifar10_subset.npz, tinyshakespeare.txt"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("results"), help="folder for learned_adam.csv (default: results)"
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), metavar="NAME")
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="those that come with the package by default")
    parser.add_argument("--times", action="store_true", help="only seconds of a step, beside those of torch.optim")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    if options.times:
        for name in ("A", "MLP"):
            times = step_times(LOSS_SCALED[name]())
            print(name, *(f"{way} {1e6 * time:.0f} µs" for way, time in times.items()), sep=", ")
        return
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} CPU threads")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "learned_adam.csv"
    for name in options.cells:
        rows = read_csv(path) if path.exists() else []
        if not any(row["cell"] == name for row in rows):  # what is there is not measured again
            append(path, measured(CELLS[name], options, rows))
            print(f"{name}: {sum(1 for _ in read_csv(path)) - len(rows)} trainings", flush=True)
    print_table(read_csv(path))


if __name__ == "__main__":
    main()
