"""What a meta-training consists of."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from cockpit.optim.learned.rule import Rule
from cockpit.optim.learned.tasks import Task
from cockpit.optim.learned.unroll import Estimator, Penalty, Summary

ADAM = functools.partial(torch.optim.Adam, lr=1e-3)


class AnnealedAdam(torch.optim.Adam):
    """Adam whose learning rate falls to zero along a cosine.

    Args:
        params: As for any optimizer.
        lr: At first.
        steps: After how many it is zero. A meta-training of more updates is refused.
    """

    def __init__(self, params: ParamsT, lr: float, steps: int) -> None:
        super().__init__(params, lr)
        self.lr, self.steps = lr, steps

    def step(self, closure: Any = None) -> Any:
        """As Adam's."""
        done = max((float(state["step"]) for state in self.state.values()), default=0.0)
        for group in self.param_groups:
            group["lr"] = self.lr * (1 + math.cos(math.pi * min(1.0, done / self.steps))) / 2
        return super().step(closure)


def mean_log(losses: Tensor) -> Tensor:
    """Mean logarithm of outer losses, so that all tasks and stages of a training count alike. Shape ``[]``."""
    return losses.log().mean()


@dataclass(frozen=True)
class Recipe:
    """A meta-training but for its seed.

    Args:
        name: What it is asked for by.
        rule: What is learned.
        tasks: Families of problems; each is stacked on its own, and all count alike.
        estimator: How meta-gradients are made.
        copies: Problems of each family that are in training at a time.
        horizon: Updates after which a problem is replaced by a new one: of all families, or of each.
        iterations: Updates of the meta-parameters.
        optimizer: Makes the optimizer of the meta-parameters.
        clip: Largest norm of a meta-gradient; ``None`` for any.
        summary: From the outer losses of a truncation, shape ``[length]``, to what is minimised.
        penalty: Added to the outer loss of each step, from the parameters before it and after it: how meta-training is
            kept from updates of some kind. Trials on ``test`` are without it.
        test: What is learned is tried on new problems of this task now and then; ``None``: on none.
        test_copies: On how many.

    Raises:
        ValueError: If there is no task, or a number is not positive.
    """

    name: str
    rule: Rule
    tasks: tuple[Task, ...]
    estimator: Estimator
    copies: int = 8
    horizon: int | tuple[int, ...] = 100
    iterations: int = 1000
    optimizer: Callable[[list[Tensor]], Optimizer] = ADAM
    clip: float | None = None
    summary: Summary = torch.mean
    penalty: Penalty | None = None
    test: Task | None = None
    test_copies: int = 16

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError(f"the recipe {self.name!r} has no task to learn from")
        if len(self.horizons) != len(self.tasks):
            raise ValueError(f"the recipe {self.name!r} has {len(self.tasks)} tasks and {len(self.horizons)} horizons")
        numbers = {name: getattr(self, name) for name in ("copies", "iterations", "test_copies")}
        numbers["horizon"] = min(self.horizons)
        if wrong := {name: number for name, number in numbers.items() if number < 1}:
            raise ValueError(f"the recipe {self.name!r} needs positive numbers; got {wrong}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"a gradient is clipped at a positive norm; got clip={self.clip}")

    @property
    def horizons(self) -> tuple[int, ...]:
        """Of each task."""
        return (self.horizon,) * len(self.tasks) if isinstance(self.horizon, int) else self.horizon

    def lasting(self, iterations: int) -> Recipe:
        """The same with another number of updates. An annealed learning rate falls as it did, and more slowly where it
        would have come to zero before the last of them."""
        optimizer = self.optimizer
        if isinstance(optimizer, functools.partial) and optimizer.func is AnnealedAdam:
            optimizer = functools.partial(optimizer, steps=max(iterations, optimizer.keywords["steps"]))
        return replace(self, iterations=iterations, optimizer=optimizer)

    def described(self) -> dict[str, Any]:
        """As plain data: what a log and a file of weights say about it."""
        return {
            "recipe": self.name,
            "rule": {"name": self.rule.name, "version": self.rule.version, **asdict(self.rule)},
            "tasks": [_words(task) for task in self.tasks],
            "estimator": _words(self.estimator),
            **{name: getattr(self, name) for name in ("copies", "iterations", "clip")},
            "horizon": self.horizon if isinstance(self.horizon, int) else list(self.horizon),
            "optimizer": _words(self.optimizer),
            "summary": _words(self.summary),
            "penalty": None if self.penalty is None else _words(self.penalty),
            "test": None if self.test is None else _words(self.test),
        }


def _words(thing: object) -> str:
    """What it is, the same in every process."""
    if isinstance(thing, functools.partial):
        arguments = ", ".join(f"{name}={value!r}" for name, value in thing.keywords.items())
        return f"{_words(thing.func)}({arguments})"
    if hasattr(thing, "__dataclass_fields__"):
        return repr(thing)
    if isinstance(thing, Task):
        return thing.name
    return getattr(thing, "__qualname__", type(thing).__qualname__)
