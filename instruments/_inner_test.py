"""Inner product test: how much do the individual gradients scatter along their mean?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cockpit.instrument import Instrument, register
from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.reading import Reading
from cockpit.statistics import sum_of_squares
from cockpit.step import Step


def inner_test_theta(dots: Tensor, grad_sq_norm: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Smallest :math:`\theta` for which the inner product test passes.

    .. math::
        \theta^2 = \frac{N}{N - 1} \sum_n w_n^2
        \left( \frac{\langle g_n, g \rangle}{\lVert g \rVert^2} - 1 \right)^2

    Bollapragada et al., *Adaptive sampling strategies for stochastic optimization* (2017), eq. (2.6).

    Args:
        dots: Inner products of the individual gradients with their mean. Shape ``[N]``, ``N >= 2``.
        grad_sq_norm: Squared norm of the mean. Shape ``[]``.
        weights: Weight of each sample in the mean; equal if not given. Shape ``[N]``.

    Returns:
        Scalar, shape ``[]``; NaN where the mean gradient is zero.

    Raises:
        ValueError: For fewer than two samples.

    Example:
        >>> inner_test_theta(torch.tensor([1.0, 3.0]), torch.tensor(2.0))
        tensor(0.5000)
    """
    (N,) = dots.shape
    if N < 2:
        raise ValueError(f"the inner product test needs at least 2 samples, got {N}")
    weights = torch.full_like(dots, 1 / N) if weights is None else weights
    return sum_of_squares((dots / grad_sq_norm - 1).square(), weights).sqrt()


@register
class InnerTest(Instrument):
    """The half-width of the band, along the mean gradient, in which it is expected."""

    name = "inner_test"
    configuration = "economy"
    needs = (PerSampleMoments,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        moments = step[PerSampleMoments]
        if (reason := moments.directionless()) is not None:
            return Reading(None, reason=reason)
        return Reading(inner_test_theta(moments.dots, moments.grad_sq_norm, moments.weights).item())
