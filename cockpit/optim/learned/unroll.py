"""Truncated unrolls: some steps of trainings, and the gradient of their outer losses through these steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

from cockpit.optim.learned.cohort import Cohort, Life
from cockpit.optim.learned.rule import Rule, Signals, Tensors
from cockpit.optim.learned.tasks import Task

Summary: TypeAlias = Callable[[Tensor], Tensor]
"""From the outer losses of a truncation, shape ``[length]``, to what is minimised, shape ``[]``."""

Penalty: TypeAlias = Callable[[Tensors, Tensors], Tensor]
"""From one problem's parameters before an update and after it to what is added to that step's outer loss, ``[]``."""


class Estimate(NamedTuple):
    """What a truncation tells of each problem.

    Args:
        losses: Meta-loss of each. Shape ``[copies]``.
        gradients: Of the meta-loss by each meta-parameter. Shape ``[copies, …]``.
    """

    losses: Tensor
    gradients: Tensors


@dataclass(frozen=True)
class Estimator(ABC):
    """A way to meta-gradients.

    Args:
        length: Steps of a truncation.
    """

    length: int = 10

    sides: ClassVar[int] = 1
    """Trainings of each problem."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"a truncation has at least one step; got length={self.length}")

    @abstractmethod
    def estimate(
        self,
        cohort: Cohort,
        meta: Tensors,
        summary: Summary,
        generator: torch.Generator,
        penalty: Penalty | None = None,
    ) -> Estimate:
        """Trains all problems for one truncation, and says how to change the meta-parameters.

        Args:
            cohort: The problems; they have gone on afterwards.
            meta: Meta-parameters.
            summary: Makes the meta-loss of outer losses.
            generator: The only source of chance.
            penalty: Of single updates, if any are to be avoided.
        """


@dataclass(frozen=True)
class Unrolled(Estimator):
    """Differentiates through the updates of a truncation; what came before it is taken as given.

    Andrychowicz et al., *Learning to learn by gradient descent by gradient descent* (2016), section 2.1.

    Args:
        length: Steps of a truncation.
        through_gradients: Whether the gradients that a rule is given depend, by the steps before, on the
            meta-parameters, too. Without, as in section 2.1, no second derivatives of the loss are taken.
    """

    through_gradients: bool = True

    def estimate(
        self,
        cohort: Cohort,
        meta: Tensors,
        summary: Summary,
        generator: torch.Generator,
        penalty: Penalty | None = None,
    ) -> Estimate:
        """The exact gradient of one truncation, but for what ``through_gradients`` leaves out."""

        def objective(meta: Tensors, *problem: Any) -> tuple[Tensor, Life]:
            losses, life = unroll(
                cohort.rule, cohort.task, cohort.horizon, meta, *problem,
                through=self.through_gradients, penalty=penalty,
            )  # fmt: skip
            return summary(losses), life

        batches = cohort.batches(self.length, generator)
        each = torch.func.vmap(torch.func.grad_and_value(objective, has_aux=True), in_dims=(None, 0, 0, 0))
        gradients, (losses, life) = each(meta, cohort.lives[0], cohort.step, batches)
        cohort.advance([life], self.length)
        return Estimate(losses, gradients)


def unroll(
    rule: Rule,
    task: Task,
    horizon: int,
    meta: Tensors,
    life: Life,
    step: Tensor,
    batches: Sequence[Tensors],
    *,
    through: bool = True,
    penalty: Penalty | None = None,
) -> tuple[Tensor, Life]:
    """Some steps of one problem's training.

    Args:
        rule: What trains it.
        task: What it is a problem of.
        horizon: Steps of the whole training.
        meta: Meta-parameters.
        life: The training so far.
        step: Its number of steps. Shape ``[]``.
        batches: For each step, and one to evaluate the last on.
        through: Whether what the rule is told, gradients and losses, may be differentiated.
        penalty: Of each update; none if not given.

    Returns:
        The outer loss after each step and the penalty of this step, shape ``[steps]``, and the training as it is then.
    """
    params, state = started(rule, meta, life, step), life.state
    end = torch.full_like(step, float(horizon))
    losses = []
    for number, (batch, following) in enumerate(pairwise(batches)):
        told, gradients = rule.gradients(meta, task, params, batch)
        unknown = torch.full_like(told, float("nan"))
        valid_loss = task.valid_loss(params, batch) if "valid_loss" in rule.needs else unknown
        if not through:
            told, valid_loss = told.detach(), valid_loss.detach()
            gradients = {name: gradient.detach() for name, gradient in gradients.items()}
        signals = Signals(step + number, end, told, valid_loss)
        before = params
        params, state = rule.update(meta, gradients, before, state, signals)
        loss = task.outer_loss(params, following)
        losses.append(loss if penalty is None else loss + penalty(before, params))
    return torch.stack(losses), Life(params, state)


def started(rule: Rule, meta: Tensors, life: Life, step: Tensor) -> Tensors:
    """The parameters of a training; before its first step, where the rule has it start."""
    if type(rule).start is Rule.start:
        return life.params
    begun = rule.start(meta, life.params)
    return {name: torch.where(step == 0, begun[name], old) for name, old in life.params.items()}
