"""SGD with momentum and AdamW as rules whose learning rate is given, so that a grid of them trains side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cockpit.optim.learned import Rule, Signals, State, Tensors

WARM_UP = 0.05
"""The part of a training in which the learning rate of ``warm-up + cosine`` rises."""

SCHEDULES = ("constant", "warm-up + cosine")


@dataclass(frozen=True)
class TunedRule(Rule):
    """A rule of ``torch.optim`` with the learning rate as its only meta-parameter, and a schedule.

    Args:
        schedule: One of :data:`SCHEDULES`.
    """

    schedule: str = SCHEDULES[0]
    needs = frozenset({"horizon"})

    def meta_parameters(self, generator: torch.Generator) -> Tensors:
        """A learning rate that nobody tuned."""
        return {"lr": torch.tensor(1e-3)}

    def rate(self, meta: Tensors, signals: Signals) -> Tensor:
        """The learning rate of a step."""
        if self.schedule == SCHEDULES[0]:
            return meta["lr"]
        rising = ((signals.step + 1) / (WARM_UP * signals.horizon)).clamp_max(1)
        falling = (1 + torch.cos(math.pi * signals.step / signals.horizon)) / 2
        return meta["lr"] * rising * falling


@dataclass(frozen=True)
class TunedSGD(TunedRule):
    """``torch.optim.SGD(momentum=0.9)``."""

    name = "SGD"
    momentum: float = 0.9

    def init(self, params: Tensors) -> State:
        """The momentum."""
        return {name: {"momentum": torch.zeros_like(p)} for name, p in params.items()}

    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        """As ``torch.optim.SGD`` does."""
        rate = self.rate(meta, signals)
        after = {name: {"momentum": self.momentum * state[name]["momentum"] + g} for name, g in gradients.items()}
        return {name: p - rate * after[name]["momentum"] for name, p in params.items()}, after


@dataclass(frozen=True)
class TunedAdamW(TunedRule):
    """``torch.optim.AdamW`` with its own defaults, but for the learning rate."""

    name = "AdamW"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2

    def init(self, params: Tensors) -> State:
        """Averages of gradients and of their squares."""
        return {name: {"mean": torch.zeros_like(p), "square": torch.zeros_like(p)} for name, p in params.items()}

    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        """As ``torch.optim.AdamW`` does."""
        rate, count = self.rate(meta, signals), signals.step + 1
        unbiased, scale = 1 - self.betas[0] ** count, (1 - self.betas[1] ** count).sqrt()
        updated, after = {}, {}
        for name, p in params.items():
            mean = state[name]["mean"].lerp(gradients[name], 1 - self.betas[0])
            square = state[name]["square"].lerp(gradients[name].square(), 1 - self.betas[1])
            step = mean / unbiased / (square.sqrt() / scale + self.eps)
            updated[name] = (1 - rate * self.weight_decay) * p - rate * step
            after[name] = {"mean": mean, "square": square}
        return updated, after


GRIDS = {
    TunedSGD: [3e-3 * 10 ** (3 * k / 8) for k in range(9)],
    TunedAdamW: [1e-4 * 10 ** (3 * k / 8) for k in range(9)],
}
"""Nine learning rates each, from 0.003 to 3 and from 0.0001 to 0.1."""
