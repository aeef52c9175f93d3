"""ML³: a learned loss, whose gradient plain gradient descent follows."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from cockpit.optim.learned.lstm import uniform
from cockpit.optim.learned.optimizer import LearnedOptimizer
from cockpit.optim.learned.recipe import Recipe
from cockpit.optim.learned.rule import Rule, Signals, State, Tensors
from cockpit.optim.learned.sines import Sines
from cockpit.optim.learned.tasks import Task
from cockpit.optim.learned.unroll import Unrolled


def learned_losses(meta: Tensors, prediction: Tensor, target: Tensor) -> Tensor:
    r"""The learned loss of each sample.

    .. math::
        \ell(\hat y, y) = \operatorname{softplus}(W_K \operatorname{relu}(\dots \operatorname{relu}(W_0 [\hat y, y])))

    Bechtle et al., *Meta Learning via Learned Loss* (2021).

    Args:
        meta: ``loss.0``, ``loss.1``, …: the weights :math:`W_k`.
        prediction: Shape ``[N, outputs]``.
        target: Shape ``[N, outputs]``.

    Returns:
        Shape ``[N]``, positive.
    """
    *hidden, last = (meta[f"loss.{k}"].to(prediction.dtype) for k in range(len(meta)))
    features = torch.cat([prediction, target.to(prediction.dtype)], dim=-1)
    for weight in hidden:
        features = torch.relu(features @ weight.mT)
    return torch.nn.functional.softplus(features @ last.mT).squeeze(-1)


@runtime_checkable
class Predicting(Protocol):
    """A task whose mini-batches have an input ``x`` and a target ``y``, shape ``[N, outputs]``."""

    def predict(self, params: Tensors, x: Tensor) -> Tensor:
        """The network's output. Shape ``[N, outputs]``."""


@dataclass(frozen=True)
class ML3Rule(Rule):
    """Gradient descent on a learned loss; what is learned is the loss.

    With ``learning_rate=1`` the loss has to learn the step size too: the source's *sl*.

    Args:
        learning_rate: Of gradient descent.
        gain: What the weights of each layer are multiplied with at first.
        hidden: Sizes of the loss's hidden layers.
        outputs: Of the network that is trained.
    """

    name = "ML3"

    learning_rate: float = 1e-3
    gain: float = 1.0
    hidden: tuple[int, ...] = (50, 50)
    outputs: int = 1

    def meta_parameters(self, generator: torch.Generator) -> Tensors:
        """``loss.k``, shape ``[outputs, inputs]``: Glorot-uniform, multiplied with the gain. There are no biases."""
        sizes: Sequence[int] = (2 * self.outputs, *self.hidden, 1)
        return {
            f"loss.{k}": uniform((after, before), self.gain * math.sqrt(6 / (before + after)), generator)
            for k, (before, after) in enumerate(pairwise(sizes))
        }

    def gradients(self, meta: Tensors, task: Task, params: Tensors, batch: Tensors) -> tuple[Tensor, Tensors]:
        """The learned loss of a mini-batch, and its gradients."""

        if not isinstance(task, Predicting):
            raise TypeError(
                f"a loss is learned on tasks whose networks predict something; {task.name!r} has no predict"
            )

        def loss(params: Tensors) -> Tensor:
            return learned_losses(meta, task.predict(params, batch["x"]), batch["y"]).mean()

        gradients, value = torch.func.grad_and_value(loss)(params)
        return value, gradients

    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        """θ − learning rate · gradient of the learned loss."""
        return {name: p - self.learning_rate * gradients[name] for name, p in params.items()}, state


class ML3(LearnedOptimizer):
    """Meta Learning via Learned Loss: plain gradient descent on a loss that has been learned.

    ::

        optimizer = ML3(model.parameters(), weights="ml3.pt")
        optimizer.loss(model(x), y).backward()
        optimizer.step()

    S. Bechtle et al., *Meta Learning via Learned Loss*, ICPR 2020, and N. Alosily, *Loss Scaling and Step Size in Deep
    Learning Optimization*, 2023, section 6.2.1.

    Args:
        params: As for any optimizer.
        weights: Of a meta-training, or where its file lies.
        lr: What the steps are multiplied with, beside the learning rate that the loss was learned with.

    Raises:
        ValueError: If the weights are those of another rule, or a parameter is complex.
    """

    rule_type = ML3Rule

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The learned loss of a mini-batch, to call ``backward`` on: the mean of :meth:`losses`."""
        return self.losses(prediction, target).mean()

    def losses(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The learned loss of each sample, for ``step.losses`` of a cockpit.

        Args:
            prediction: Shape ``[N, outputs]``.
            target: Alike; classes are given as zeros and ones.

        Returns:
            Shape ``[N]``.

        Raises:
            ValueError: If the shapes are others than those for which the loss was learned.
        """
        outputs = cast(ML3Rule, self.rule).outputs
        if prediction.shape != target.shape or prediction.dim() != 2 or prediction.shape[1] != outputs:
            raise ValueError(
                f"this loss was learned for predictions and targets of shape [N, {outputs}]; got shapes "
                f"{list(prediction.shape)} and {list(target.shape)}"
            )
        return learned_losses(self._meta(prediction.device), prediction, target)


@dataclass(frozen=True)
class PlainSines(Sines):
    """Waves on [−2, 2] for the network of the source of ML³: layers of 100 and 10, Glorot-uniform weights, zero biases.

    Args:
        seed: Of one wave and its places, which are then the same for all problems; ``None``: new ones for each.
    """

    amplitudes: tuple[float, float] = (1.0, 1.0)
    reach: float = 2.0
    widths: tuple[int, ...] = (1, 100, 10, 1)
    seed: int | None = None

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensors, Tensors]:
        """Networks, and waves for them."""
        params, data = super().sample(count, generator)
        for name, weight in params.items():
            if weight.dim() == 3:
                params[name] = uniform(weight.shape, math.sqrt(6 / (weight.shape[1] + weight.shape[2])), generator)
        if self.seed is not None:
            _, one = super().sample(1, torch.Generator().manual_seed(self.seed))
            data = {name: tensor.expand(count, -1, -1).clone() for name, tensor in one.items()}
        return params, data


OTHER_SINES = PlainSines(amplitudes=(0.2, 5.0), phases=(-math.pi, math.pi))
"""What a learned loss is tried on: waves of any phase, up to five times as high."""


def recipe() -> Recipe:
    """One wave, one step of gradient descent from a new network each time, Adam on the squared error after it: the
    protocol of Bechtle et al. and of Alosily, section 6.2.1."""
    return Recipe(
        name="ml3",
        rule=ML3Rule(),
        tasks=(PlainSines(seed=0),),
        estimator=Unrolled(length=1),
        copies=1,
        horizon=1,
        iterations=500,
        optimizer=functools.partial(torch.optim.Adam, lr=1e-3),
        test=OTHER_SINES,
        test_copies=10,
    )


def scaled_recipe() -> Recipe:
    """The same without a learning rate, which the loss learns to make up for: *sl*. The source has a smaller gain and a
    smaller outer learning rate and does not say how small; here both are a tenth."""
    return dataclasses.replace(
        recipe(),
        name="sl",
        rule=ML3Rule(learning_rate=1.0, gain=0.1),
        optimizer=functools.partial(torch.optim.Adam, lr=1e-4),
    )
