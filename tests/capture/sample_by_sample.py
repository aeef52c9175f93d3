"""A loss for any model, and its individual gradients in both precisions against brute force."""

from __future__ import annotations

import torch
from capturing import SINGLE, TIGHT, agree, captured
from reference import doubled, one_at_a_time
from torch import Tensor, nn


def squared(model: nn.Module, x: Tensor) -> Tensor:
    """Individual losses, and a gradient that is another at every output."""
    out = model(x)
    return (out * torch.linspace(0.5, 1.5, out[0].numel()).view(out[0].shape).to(out)).flatten(1).square().mean(1)


def check(model: nn.Module, x: Tensor, limit: int = 1 << 28) -> None:
    """Float64 at its own tolerance, then the same in float32 against the same truth."""
    truth = one_at_a_time(model, lambda m: squared(m, doubled(x)))
    for dtype, tolerance in ((torch.float64, TIGHT), (torch.float32, SINGLE)):
        cast = model.to(dtype)
        inputs = x.to(dtype) if x.is_floating_point() else x
        told = captured(cast, lambda c, m=cast, i=inputs: c.register(squared(m, i)).backward(), limit)
        agree(told, truth, **tolerance)
        assert not told.coupled
