"""Optimizers that scale the loss and their plain twins; trainings of the same network on the same data."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cockpit.optim import ScaledAdam, ScaledAdamW, ScaledRMSprop, ScaledSGD

PAIRS = {
    "SGD": (ScaledSGD, torch.optim.SGD, {"lr": 0.05}),
    "momentum": (ScaledSGD, torch.optim.SGD, {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-2}),
    "dampened": (ScaledSGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.8, "dampening": 0.3}),
    "Nesterov": (ScaledSGD, torch.optim.SGD, {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    "RMSprop": (ScaledRMSprop, torch.optim.RMSprop, {"lr": 1e-3, "weight_decay": 1e-2}),
    "RMSprop, momentum": (ScaledRMSprop, torch.optim.RMSprop, {"lr": 1e-3, "momentum": 0.9, "alpha": 0.9}),
    "RMSprop, centered": (
        ScaledRMSprop,
        torch.optim.RMSprop,
        {"lr": 1e-3, "centered": True, "momentum": 0.5, "eps": 1e-4},
    ),
    "Adam": (ScaledAdam, torch.optim.Adam, {"lr": 1e-2}),
    "Adam, decay": (
        ScaledAdam,
        torch.optim.Adam,
        {"lr": 1e-2, "weight_decay": 1e-2, "betas": (0.8, 0.95), "eps": 1e-3},
    ),
    "AMSGrad": (ScaledAdam, torch.optim.Adam, {"lr": 1e-2, "amsgrad": True, "weight_decay": 1e-3}),
    "AdamW": (ScaledAdamW, torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1}),
    "AdamW, AMSGrad": (ScaledAdamW, torch.optim.AdamW, {"lr": 1e-2, "amsgrad": True}),
}
SCALES = {
    "number": 0.37,
    "power of two": 2.0**16,
    "schedule": lambda step: 10.0 + 7 * math.sin(step),
    "one for each parameter": [3.0, 0.1, 2.0**10, 1.0, 7.5, 0.011],
}

Change = Callable[[int, torch.optim.Optimizer], object]


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)


def batches(steps: int, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(steps):
        x = torch.randn(16, 3, generator=generator, dtype=dtype)
        found.append((x, torch.stack([x.prod(1), (x**2).sum(1)], 1)))
    return found


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: list[tuple[Tensor, Tensor]],
    *,
    schedule: Any = None,
    before_step: Change = lambda step, optimizer: None,
    after_step: Change = lambda step, optimizer: None,
) -> list[Tensor]:
    """Trains; the parameters after it."""
    scheduler = schedule(optimizer) if schedule else None
    for step, (x, y) in enumerate(data):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        (optimizer.scale(loss) if hasattr(optimizer, "scale") else loss).backward()
        before_step(step, optimizer)
        optimizer.step()
        if scheduler:
            scheduler.step()
        after_step(step, optimizer)
    return [p.detach() for p in model.parameters()]


def twins(model: nn.Module | None = None) -> tuple[nn.Module, nn.Module]:
    first = network() if model is None else model
    return first, copy.deepcopy(first)


def farthest(first: list[Tensor], second: list[Tensor]) -> float:
    """Largest difference between two lists of parameters, relative to the largest value of each."""
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in zip(first, second, strict=True))
