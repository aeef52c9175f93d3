"""A small classifier and its labels, for tests of what may happen in a training step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from reference import Truth, one_at_a_time, token_losses
from torch import Tensor, nn

N, C = 8, 4

Y = torch.arange(N) % C


def mlp() -> nn.Module:
    """For inputs ``[N, 5]``, in float32."""
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, C))


def cross_entropies(scores: Tensor, y: Tensor = Y) -> Tensor:
    """The cross-entropy of each sample, shape ``[N]``."""
    return token_losses(scores.unsqueeze(1), y.unsqueeze(1))[0]


def truth_of(model: nn.Module, x: Tensor, y: Tensor = Y, weights: Sequence[float] | None = None) -> Truth:
    """Brute force for the cross-entropy of any model with such scores."""
    return one_at_a_time(model, lambda m: cross_entropies(m(x.double()), y), weights)
