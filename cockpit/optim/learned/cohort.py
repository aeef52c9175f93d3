"""Problems in training side by side, each at a stage of its own, that go on from one truncation to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cockpit.optim.learned.rule import Rule, State, Tensors
from cockpit.optim.learned.tasks import Task


class Life(NamedTuple):
    """A training in progress; stacked, of each problem.

    Args:
        params: Where it is. Before its first step, where it would start if that were not learned.
        state: What the rule remembers.
    """

    params: Tensors
    state: State


class Cohort:
    """Stacked problems of one task that are trained over and over.

    A problem is replaced by a new one when its training is over. The first trainings are cut short, each at another
    length, so that meta-training sees early and late stages at once, and trainings do not end together.

    Args:
        rule: What trains them.
        task: Makes them.
        copies: How many there are.
        horizon: Steps of a training.
        length: Steps of a truncation; trainings end between two.
        sides: How many trainings each problem has: two, of opposite perturbations.
        generator: The only source of chance.

    Attributes:
        lives: Trainings, stacked: one for each side.
        data: Of the problems.
        step: Steps that each training has had. Shape ``[copies]``.
        left: Steps that are left for it. Shape ``[copies]``.
        drift: Sum of the perturbations that a training has had, by meta-parameter; empty without any.
    """

    def __init__(
        self, rule: Rule, task: Task, *, copies: int, horizon: int, length: int, sides: int, generator: torch.Generator
    ) -> None:
        self.rule, self.task, self.horizon, self.copies = rule, task, horizon, copies
        life, self.data = self._fresh(generator)
        self.lives = [life] * sides
        self.step = torch.zeros(copies)
        truncations = -(-horizon // length)
        stages = torch.arange(1, copies + 1) * truncations / copies
        self.left = length * stages.ceil()
        self._whole = float(length * truncations)
        self.drift: Tensors = {}

    def _fresh(self, generator: torch.Generator) -> tuple[Life, Tensors]:
        params, data = self.task.sample(self.copies, generator)
        state = torch.func.vmap(self.rule.init)(params) if self.rule.init(_first(params)) else {}
        return Life(params, state), data

    def batches(self, count: int, generator: torch.Generator) -> list[Tensors]:
        """What ``count`` steps see of each problem, and the evaluation after the last one."""
        return [self.task.batch(self.data, generator) for _ in range(count + 1)]

    def advance(self, lives: list[Life], steps: int) -> None:
        """Goes on from where trainings have come to.

        Args:
            lives: Where that is, for each side.
            steps: How many steps they took.
        """
        self.lives = lives
        self.step = self.step + steps
        self.left = self.left - steps

    def renew(self, lost: Tensor, generator: torch.Generator) -> int:
        """Replaces problems whose training is over.

        Args:
            lost: Which ones are to be replaced before their time. Shape ``[copies]``.
            generator: The only source of chance.

        Returns:
            How many there are.
        """
        over = lost | (self.left <= 0)
        if not over.any():
            return 0
        life, data = self._fresh(generator)
        self.lives = [
            Life(_replaced(over, life.params, old.params), _replaced(over, life.state, old.state)) for old in self.lives
        ]
        self.data = _replaced(over, data, self.data)
        self.step = self.step.masked_fill(over, 0.0)
        self.left = self.left.masked_fill(over, self._whole)
        self.drift = _replaced(over, {name: torch.zeros_like(sum_) for name, sum_ in self.drift.items()}, self.drift)
        return int(over.sum())

    def state_dict(self) -> dict[str, Any]:
        """All there is to go on from."""
        lives = [{"params": life.params, "state": life.state} for life in self.lives]
        return {"lives": lives, "data": self.data, "step": self.step, "left": self.left, "drift": self.drift}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what :meth:`state_dict` returned."""
        self.lives = [Life(life["params"], life["state"]) for life in state["lives"]]
        self.data, self.step, self.left, self.drift = state["data"], state["step"], state["left"], state["drift"]


def _first(stacked: Tensors) -> Tensors:
    return {name: tensor[0] for name, tensor in stacked.items()}


def _replaced(which: Tensor, new: Any, old: Any) -> Any:
    """Tensors, or dictionaries of them, with the first axis' chosen entries from ``new``."""
    if isinstance(old, Mapping):
        return {name: _replaced(which, new[name], tensor) for name, tensor in old.items()}
    return torch.where(which.reshape(-1, *[1] * (old.ndim - 1)), new, old)
