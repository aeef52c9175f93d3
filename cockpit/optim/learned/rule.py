"""Update rules with parameters of their own, as pure functions: what is learned, and what then optimizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cockpit.optim.learned.tasks import Task

Tensors: TypeAlias = dict[str, Tensor]
"""By name, in an order."""

State: TypeAlias = dict[str, Tensors]
"""What a rule remembers between updates: tensors by name, by the name of the parameter that they belong to."""

Shapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of a network's parameters."""

SHARED = ""
"""The key of what a rule remembers that belongs to no parameter."""


class Signals(NamedTuple):
    """What a rule is told beside gradients. Tensors of shape ``[]``; float32, or float64 where the parameters are.

    Args:
        step: Number of updates so far.
        horizon: How many there will be; NaN where nobody said.
        loss: The training loss where the gradients were taken; NaN where nobody said.
        valid_loss: The validation loss there, or at an earlier step; NaN where nobody said.
        weights: Number of tensors with two axes and more in the network, whether they have a gradient or not; ``None``
            where all of its parameters are updated.
    """

    step: Tensor
    horizon: Tensor
    loss: Tensor
    valid_loss: Tensor
    weights: int | None = None


@dataclass(frozen=True)
class Rule(ABC):
    """An update rule ``θ′, s′ = update(φ, ∇L, θ, s)`` whose meta-parameters ``φ`` are learned.

    A rule computes out of place and decides nothing by values, so that it can be differentiated, and mapped over many
    tasks at once with :func:`torch.func.vmap`. Its fields are settings of plain types (numbers, texts, tuples), which
    are kept with learned weights.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """To be raised where weights that were learned before no longer mean the same."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Which of the signals ``horizon``, ``loss`` and ``valid_loss`` it has no rule without."""

    @property
    def tensors(self) -> Mapping[str, tuple[int, ...]] | None:
        """Shapes by name of the only parameters that it knows what to do with; ``None``: of any."""
        return None

    @abstractmethod
    def meta_parameters(self, generator: torch.Generator) -> Tensors:
        """Meta-parameters before anything is learned, float32."""

    def start(self, meta: Tensors, params: Tensors) -> Tensors:
        """Where training starts, which may be learned, too.

        Args:
            meta: Meta-parameters.
            params: Where it would start otherwise.
        """
        return params

    def init(self, params: Tensors) -> State:
        """What is remembered before the first update. A parameter's part does not depend on the other parameters."""
        return {}

    def gradients(self, meta: Tensors, task: Task, params: Tensors, batch: Tensors) -> tuple[Tensor, Tensors]:
        """The loss of one step on a task, shape ``[]``, and the gradients that :meth:`update` is given."""
        gradients, loss = torch.func.grad_and_value(task.loss)(params, batch)
        return loss, gradients

    @abstractmethod
    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        """One update.

        Args:
            meta: Meta-parameters.
            gradients: Of the parameters that have one.
            params: These parameters.
            state: What is remembered of them, and under :data:`SHARED`.
            signals: What else is known.

        Returns:
            The new parameters and the new state.
        """

    def update_(self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals) -> State:
        """:meth:`update` in place, where nothing is to be differentiated; returns the new state."""
        new, state = self.update(meta, gradients, params, state, signals)
        torch._foreach_copy_(list(params.values()), [new[name] for name in params])
        return state


@dataclass(frozen=True)
class NetworkRule(Rule):
    """A rule with meta-parameters for each tensor of one network.

    Args:
        shapes: Of the network whose parameters it is for.
    """

    shapes: Shapes

    @property
    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        """Those of the network."""
        return dict(self.shapes)


def blank(rule: Rule) -> Tensors:
    """Meta-parameters of a rule, for their names and shapes."""
    return rule.meta_parameters(torch.Generator().manual_seed(0))
