"""LURE: one learned weight for each tensor of a network."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from cockpit.optim.learned.optimizer import LearnedOptimizer
from cockpit.optim.learned.recipe import Recipe
from cockpit.optim.learned.rule import NetworkRule, Signals, State, Tensors
from cockpit.optim.learned.sines import TEST, TRAIN
from cockpit.optim.learned.unroll import Unrolled


@dataclass(frozen=True)
class LURERule(NetworkRule):
    """Layer-wise update rule: ``θ ← θ − tanh(w·g)``, with one ``w`` for each tensor.

    Alosily, *Loss Scaling and Step Size in Deep Learning Optimization* (2023), section 6.3.3 and code block 6.1.

    Args:
        shapes: Of the network whose parameters it is for.
        gain: Weights are uniform between 0 and this before anything is learned.
    """

    name = "LURE"

    gain: float = 1e-3

    def meta_parameters(self, generator: torch.Generator) -> Tensors:
        """``w`` of each tensor. Shape ``[]``."""
        return {name: self.gain * torch.rand((), generator=generator) for name in self.tensors}

    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        """Steps of at most 1 in each coordinate."""
        return {name: p - torch.tanh(meta[name] * gradients[name]) for name, p in params.items()}, state

    def update_(self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals) -> State:
        """The same, for all tensors at once."""
        steps = torch._foreach_mul(list(gradients.values()), [meta[name] for name in gradients])
        torch._foreach_tanh_(steps)
        torch._foreach_sub_([params[name] for name in gradients], steps)
        return state


class LURE(LearnedOptimizer):
    """The layer-wise update rule of :class:`LURERule`, with weights that were learned.

    Args:
        params: Those of a network like the one it was learned for, in its order.
        weights: See :class:`~cockpit.optim.learned.LearnedOptimizer`; so are the other arguments.
        lr: Multiplies the learned step.
        horizon: Not used.
    """

    rule_type = LURERule


def recipe() -> Recipe:
    """The source's sine waves, one phase to learn from and all to be tried on, 110 steps each, 10,000 updates."""
    return Recipe(
        name="lure",
        rule=LURERule(TRAIN.shapes),
        tasks=(TRAIN,),
        estimator=Unrolled(length=5),
        copies=8,
        horizon=110,
        iterations=10_000,
        optimizer=functools.partial(torch.optim.Adam, lr=1e-3),
        clip=1.0,
        test=TEST,
    )
