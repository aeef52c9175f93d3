"""Targets of six samples, and a network to be trained on them."""

from __future__ import annotations

import torch
from torch import nn

N, T, C = 6, 4, 5

LABELS = torch.tensor([0, 3, 1, 1, 4, 2])
"""A class for each sample."""

TOKENS = torch.tensor([[0, 1, 9, 2], [9, 9, 9, 1], [2, 2, 3, 4], [9, 9, 9, 9], [1, 9, 0, 9], [4, 3, 2, 1]])
"""A class for each word; 9 where it is to be ignored."""

Y = torch.linspace(-1, 1, N * C).view(N, C)
"""A number for each output."""


def network(outputs: int = C) -> nn.Module:
    """For inputs ``[N, 3]`` or ``[N, T, 3]``."""
    return nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, outputs))
