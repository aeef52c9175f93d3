"""Families of problems that rules are learned on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cockpit.optim.learned.rule import Tensors

_CUT = 0.8796256610342398
"""Standard deviation of a normal distribution of deviation 1 that is cut at 2."""


class Task(ABC):
    """Problems of one kind, whose tensors have the same shapes: they are trained side by side, stacked.

    What is shared by all problems, such as a data set, belongs to the task; ``data`` and batches may then hold indices.
    """

    name: str

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensors, Tensors]:
        """New problems.

        Args:
            count: How many.
            generator: The only source of chance.

        Returns:
            The parameters that training starts from, and what makes each problem what it is. Shape ``[count, …]``.
        """

    def batch(self, data: Tensors, generator: torch.Generator) -> Tensors:
        """What one step sees of each problem, shape ``[count, …]``; by default all of it.

        Args:
            data: Of stacked problems.
            generator: The only source of chance.
        """
        return data

    @abstractmethod
    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """What one problem is trained on. Shape ``[]``.

        Args:
            params: Of one problem.
            batch: Of the same one.
        """

    def valid_loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """What rules that ask for a validation loss are told, see :meth:`loss`."""
        return self.loss(params, batch)

    def outer_loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """What meta-training minimises: after an update, on the next step's batch; see :meth:`loss`."""
        return self.loss(params, batch)


def stacked_parameters(make: Callable[[], nn.Module], count: int, generator: torch.Generator) -> Tensors:
    """Parameters of newly made modules, stacked. PyTorch's own random numbers are left as they were.

    Args:
        make: Makes one, with initial values of its own.
        count: How many.
        generator: Where the seed comes from.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        made = [dict(make().named_parameters()) for _ in range(count)]
    return {name: torch.stack([module[name].detach() for module in made]) for name in made[0]}


def fan_in_normal(shape: Sequence[int], generator: torch.Generator, count: int | None = None) -> Tensor:
    """Initial values of a dense layer: weights normal with variance one over the number of inputs, cut at two standard
    deviations (LeCun et al., *Efficient backprop*, 1998); vectors, which are biases, zero.

    Args:
        shape: Of the tensor.
        generator: The only source of chance.
        count: For so many layers, stacked.
    """
    stacked = torch.zeros(*(() if count is None else (count,)), *shape)
    if len(shape) < 2:
        return stacked
    deviation = 1 / math.sqrt(math.prod(shape[1:])) / _CUT
    return nn.init.trunc_normal_(stacked, 0.0, deviation, -2 * deviation, 2 * deviation, generator=generator)
