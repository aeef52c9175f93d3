"""Three times the same training loop: alone, under Cockpit, and under f-dangel/cockpit.

Each is a context manager that gives a function. Called with a number of steps, it trains on, the first of these steps
tracked, unless it is told otherwise, and the others not. Libraries are imported where they are used: the two cockpits
share a name, so that they cannot share an environment.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

import torch
from networks import NETWORKS
from torch import Tensor, nn

CONFIGURATIONS = ("economy", "business", "full")


class Advance(Protocol):
    """Trains on."""

    def __call__(self, steps: int, *, tracked: bool = True) -> None: ...


@dataclass(frozen=True)
class Job:
    """What a loop trains.

    Args:
        problem: Name of the network.
        tracked: A configuration, or one instrument's class name, with arguments as in ``HessTrace:curvature=ggn``.
        batches: File with tensors ``x``, shape ``[batches, N, …]``, and ``y``, shape ``[batches, N]``.
        learning_rate: Of plain SGD.
        device: ``cpu`` or ``cuda``.
        log: Directory that the log may be written to.
        seed: Of the initial parameters.
    """

    problem: str
    tracked: str
    batches: str
    learning_rate: float
    device: str
    log: str
    seed: int = 0

    def data(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches, over and over."""
        stored = torch.load(self.batches)
        pairs = zip(stored["x"].to(self.device), stored["y"].to(self.device), strict=True)
        return cycle(list(pairs))

    def model(self) -> nn.Module:
        """The network; the same parameters for the same seed."""
        torch.manual_seed(self.seed)
        return NETWORKS[self.problem]().to(self.device)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(model.parameters(), lr=self.learning_rate)


@contextmanager
def plain(job: Job) -> Iterator[Advance]:
    """Nothing but training."""
    data, model, loss_fn = job.data(), job.model(), nn.CrossEntropyLoss()
    optimizer = job.optimizer(model)

    def advance(steps: int, *, tracked: bool = True) -> None:
        for _ in range(steps):
            x, y = next(data)
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()

    yield advance


@contextmanager
def cockpit(job: Job) -> Iterator[Advance]:
    """Under Cockpit."""
    from cockpit import Cockpit

    data, model, loss_fn = job.data(), job.model(), nn.CrossEntropyLoss()
    optimizer = job.optimizer(model)
    due: set[int] = set()
    done = 0

    def advance(steps: int, *, tracked: bool = True) -> None:
        nonlocal done
        if tracked:
            due.add(done)
        for _ in range(steps):
            x, y = next(data)
            with watching.step():
                optimizer.zero_grad()
                loss_fn(model(x), y).backward()
                optimizer.step()
            done += 1

    instruments = _instruments(job.tracked)
    with Cockpit(model, optimizer, loss_fn, instruments=instruments, track=due.__contains__, run=job.log) as watching:
        yield advance


def _instruments(tracked: str) -> Any:
    if tracked in CONFIGURATIONS:
        return tracked
    from cockpit import instruments

    name, _, arguments = tracked.partition(":")
    return getattr(instruments, name)(**{key: _literal(value) for key, value in _pairs(arguments)})


def _pairs(arguments: str) -> Iterator[tuple[str, str]]:
    for pair in filter(None, arguments.split(",")):
        key, _, value = pair.partition("=")
        yield key, value


def _literal(value: str) -> Any:
    """A number as a number, anything else as the word it is."""
    try:
        return ast.literal_eval(value)
    except ValueError:
        return value


@contextmanager
def peer(job: Job) -> Iterator[Advance]:
    """Under f-dangel/cockpit, as its documentation shows."""
    from backpack import extend

    from cockpit import Cockpit, quantities
    from cockpit.utils.configuration import configuration

    data, model = job.data(), extend(job.model())
    loss_fn, individual_loss_fn = extend(nn.CrossEntropyLoss()), nn.CrossEntropyLoss(reduction="none")
    optimizer = job.optimizer(model)
    due: set[int] = set()
    done = 0
    if job.tracked in CONFIGURATIONS:
        chosen = configuration(job.tracked, track_schedule=due.__contains__)
    else:
        chosen = [getattr(quantities, job.tracked)(track_schedule=due.__contains__)]
    watching = Cockpit(model.parameters(), quantities=chosen)

    def advance(steps: int, *, tracked: bool = True) -> None:
        nonlocal done
        if tracked:
            due.add(done)
        for _ in range(steps):
            x, y = next(data)
            optimizer.zero_grad()
            outputs = model(x)
            loss = loss_fn(outputs, y)
            info = {
                "batch_size": len(y),
                "individual_losses": individual_loss_fn(outputs, y),
                "loss": loss,
                "optimizer": optimizer,
            }
            with watching(done, info=info):
                loss.backward(create_graph=watching.create_graph(done))
            optimizer.step()
            done += 1

    yield advance
    watching.write(str(Path(job.log) / "peer"))


LOOPS: dict[str, Callable[[Job], AbstractContextManager[Advance]]] = {"plain": plain, "cockpit": cockpit, "peer": peer}
