"""Meta-SGD: a learned rate for each parameter, and a learned start."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from cockpit.optim.learned import lure
from cockpit.optim.learned.optimizer import LearnedOptimizer
from cockpit.optim.learned.recipe import Recipe
from cockpit.optim.learned.rule import NetworkRule, Signals, State, Tensors
from cockpit.optim.learned.sines import TRAIN
from cockpit.optim.learned.tasks import fan_in_normal


@dataclass(frozen=True)
class MetaSGDRule(NetworkRule):
    """``θ ← θ − α ∘ g``, with a rate for each coordinate and, unless only these are wanted, a learned start.

    Li, Zhou, Chen and Li, *Meta-SGD: Learning to learn quickly for few-shot learning* (2017), eq. (3).

    Args:
        shapes: Of the network whose parameters it is for.
        rates: Range of ``α`` before anything is learned.
        learned_start: Whether ``θ`` at the start is learned, too.
    """

    name = "MetaSGD"

    rates: tuple[float, float] = (0.005, 0.1)
    learned_start: bool = True

    def meta_parameters(self, generator: torch.Generator) -> Tensors:
        """``α``, and the start, of each tensor, in its shape."""
        low, high = self.rates
        meta = {
            f"rate.{name}": low + (high - low) * torch.rand(shape, generator=generator) for name, shape in self.shapes
        }
        if self.learned_start:
            meta |= {f"start.{name}": fan_in_normal(shape, generator) for name, shape in self.shapes}
        return meta

    def start(self, meta: Tensors, params: Tensors) -> Tensors:
        """The learned start."""
        return {name: meta[f"start.{name}"] for name in params} if self.learned_start else params

    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        """A step of gradient descent with rates of its own."""
        return {name: p - meta[f"rate.{name}"] * gradients[name] for name, p in params.items()}, state

    def update_(self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals) -> State:
        """The same, for all tensors at once."""
        rates = [meta[f"rate.{name}"] for name in gradients]
        torch._foreach_addcmul_([params[name] for name in gradients], list(gradients.values()), rates, value=-1)
        return state


class MetaSGD(LearnedOptimizer):
    """Gradient descent with the rates of :class:`MetaSGDRule`. ``optimizer.start()`` puts the parameters where training
    was learned to start.

    Args:
        params: Those of a network like the one it was learned for, in its order.
        weights: See :class:`~cockpit.optim.learned.LearnedOptimizer`; so are the other arguments.
        lr: Multiplies the learned step.
        horizon: Not used.
    """

    rule_type = MetaSGDRule


def recipe() -> Recipe:
    """As LURE's. The rates begin at a tenth of the paper's, which are for one step: of 110 many diverge."""
    rule = MetaSGDRule(TRAIN.shapes, rates=(0.0005, 0.01))
    return replace(lure.recipe(), name="meta_sgd", rule=rule)
