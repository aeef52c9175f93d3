"""Weighted sample statistics, in one place because every gradient test needs them."""

from __future__ import annotations

import torch
from torch import Tensor


def mean(values: Tensor, weights: Tensor) -> Tensor:
    """``Σ_n w_n x_n``; shape ``[…, N] -> […]``.

    A sample of weight 0 has no value, and whatever stands in its place is not looked at.
    """
    return torch.where(weights > 0, weights * values, 0.0).sum(-1)


def variance_of_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Estimated variance of the weighted mean, ``N/(N−1) · Σ_n w_n² (x_n − x̄)²``; shape ``[…, N] -> […]``.

    For equal weights the familiar ``Σ_n (x_n − x̄)² / (N (N−1))``. ``N`` counts samples of positive weight.

    Raises:
        ValueError: For fewer than two samples of positive weight.
    """
    deviations = values - mean(values, weights).unsqueeze(-1)
    return sum_of_squares(deviations.square(), weights)


def sum_of_squares(squares: Tensor, weights: Tensor) -> Tensor:
    """``N/(N−1) · Σ_n w_n² y_n`` for squares ``y_n`` that are given; shape ``[…, N] -> […]``.

    Raises:
        ValueError: For fewer than two samples of positive weight.
    """
    N = int((weights > 0).sum())
    if N < 2:
        raise ValueError(f"a variance needs at least 2 samples, got {N}")
    return N / (N - 1) * torch.where(weights > 0, weights.square() * squares, 0.0).sum(-1)
