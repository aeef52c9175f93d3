"""Weighted sample statistics, in one place because every gradient test needs them.

All of it is on the host and short: NumPy takes a third of the time that torch would.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def mean(values: Tensor, weights: Tensor) -> Tensor:
    """``Σ_n w_n x_n``; shape ``[…, N] -> […]``.

    A sample of weight 0 has no value, and whatever stands in its place is not looked at.
    """
    return torch.from_numpy(np.asarray(_weighted(*_counted(values, weights))))


def variance_of_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Estimated variance of the weighted mean, ``N/(N−1) · Σ_n w_n² (x_n − x̄)²``; shape ``[…, N] -> […]``.

    For equal weights the familiar ``Σ_n (x_n − x̄)² / (N (N−1))``. ``N`` counts samples of positive weight.

    Raises:
        ValueError: For fewer than two samples of positive weight.
    """
    return torch.from_numpy(np.asarray(_mean_and_variance(values, weights)[1]))


def mean_and_variance(values: Tensor, weights: Tensor) -> tuple[float, float]:
    """:func:`mean` and :func:`variance_of_mean` of values of shape ``[N]``.

    Raises:
        ValueError: For fewer than two samples of positive weight.
    """
    center, variance = _mean_and_variance(values, weights)
    return float(center), float(variance)


def sum_of_squares(squares: Tensor, weights: Tensor) -> Tensor:
    """``N/(N−1) · Σ_n w_n² y_n`` for squares ``y_n`` that are given; shape ``[…, N] -> […]``.

    Raises:
        ValueError: For fewer than two samples of positive weight.
    """
    return torch.from_numpy(np.asarray(_squares(*_counted(squares, weights))))


def _mean_and_variance(values: Tensor, weights: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    x, w = _counted(values, weights)
    center = _weighted(x, w)
    with np.errstate(all="ignore"):
        deviations = x - center[..., None]
        return center, _squares(deviations * deviations, w)


def _counted(values: Tensor, weights: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values and weights of the samples of positive weight."""
    x, w = values.numpy(), weights.numpy()
    if w.min(initial=1.0) > 0:
        return x, w
    counted = w > 0
    return x[..., counted], w[counted]


def _weighted(x: NDArray[Any], w: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(all="ignore"):  # what is not finite shows in the result
        found: NDArray[Any] = x @ w
        return found


def _squares(y: NDArray[Any], w: NDArray[Any]) -> NDArray[Any]:
    N = len(w)
    if N < 2:
        raise ValueError(f"a variance needs at least 2 samples, got {N}")
    return N / (N - 1) * _weighted(y, w * w)
