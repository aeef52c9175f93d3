"""Orthogonality test: how much do the individual gradients scatter across their mean?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cockpit.instrument import Instrument, register
from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.reading import Reading
from cockpit.statistics import sum_of_squares
from cockpit.step import Step


def ortho_test_nu(sq_norms: Tensor, dots: Tensor, grad_sq_norm: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Smallest :math:`\nu` for which the orthogonality test passes.

    .. math::
        \nu^2 = \frac{N}{N - 1} \sum_n w_n^2 \left(
        \frac{\lVert g_n \rVert^2}{\lVert g \rVert^2} - \frac{\langle g_n, g \rangle^2}{\lVert g \rVert^4} \right)

    Bollapragada et al., *Adaptive sampling strategies for stochastic optimization* (2017), eq. (3.3).

    Args:
        sq_norms: Squared norms of the individual gradients. Shape ``[N]``, ``N >= 2``.
        dots: Their inner products with their mean. Shape ``[N]``.
        grad_sq_norm: Squared norm of the mean. Shape ``[]``.
        weights: Weight of each sample in the mean; equal if not given. Shape ``[N]``.

    Returns:
        Scalar, shape ``[]``; NaN where the mean gradient is zero.

    Raises:
        ValueError: For fewer than two samples.

    Example:
        >>> ortho_test_nu(torch.tensor([1.0, 5.0]), torch.tensor([1.0, 3.0]), torch.tensor(2.0))
        tensor(0.5000)
    """
    (N,) = sq_norms.shape
    if N < 2:
        raise ValueError(f"the orthogonality test needs at least 2 samples, got {N}")
    weights = torch.full_like(dots, 1 / N) if weights is None else weights
    across = sq_norms / grad_sq_norm - (dots / grad_sq_norm).square()
    return sum_of_squares(across, weights).clamp_min(0).sqrt()  # rounding can leave the sum below zero


@register
class OrthoTest(Instrument):
    """The half-width of the band, across the mean gradient, in which it is expected."""

    name = "ortho_test"
    configuration = "economy"
    needs = (PerSampleMoments,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        moments = step[PerSampleMoments]
        if (reason := moments.directionless()) is not None:
            return Reading(None, reason=reason)
        nu = ortho_test_nu(moments.sq_norms, moments.dots, moments.grad_sq_norm, moments.weights)
        return Reading(nu.item())
