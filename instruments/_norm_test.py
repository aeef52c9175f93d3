"""Norm test: is the mini-batch large enough for its gradient to be trusted?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from cockpit.instrument import Instrument, register
from cockpit.layers import Combine
from cockpit.probes.per_sample_moments import Moments, PerSampleMoments
from cockpit.reading import Reading
from cockpit.statistics import mean, sum_of_squares
from cockpit.step import Step


def norm_test_theta(
    sq_norms: Tensor, grad_sq_norm: Tensor, weights: Tensor | None = None, dots: Tensor | None = None
) -> Tensor:
    r"""Smallest :math:`\theta` for which the norm test passes.

    .. math::
        \theta^2 = \frac{N}{N - 1} \sum_n w_n^2 \frac{\lVert g_n - g \rVert^2}{\lVert g \rVert^2}
        \overset{w_n = 1/N}{=} \frac{1}{N (N - 1)}
        \left[ \frac{\sum_n \lVert g_n \rVert^2}{\lVert g \rVert^2} - N \right]

    Byrd et al., *Sample size selection in optimization methods for machine learning* (2012), eq. (3.9).

    Args:
        sq_norms: Squared norms of the individual gradients, not divided by the batch size. Shape ``[N]``, ``N >= 2``.
        grad_sq_norm: Squared norm of their mean. Shape ``[]``.
        weights: Weight of each sample in the mean; equal if not given. Shape ``[N]``.
        dots: Inner products of the individual gradients with their mean; needed for unequal weights. Shape ``[N]``.

    Returns:
        Scalar, shape ``[]``; NaN where all gradients are zero, ``inf`` where only their mean is.

    Raises:
        ValueError: For fewer than two samples, or unequal weights without ``dots``.

    Example:
        >>> norm_test_theta(torch.tensor([1.0, 5.0]), torch.tensor(2.0))
        tensor(0.7071)
    """
    (N,) = sq_norms.shape
    if N < 2:
        raise ValueError(f"the norm test needs at least 2 samples, got {N}")
    if weights is None or _equal(weights):
        spread = (sq_norms.sum() - N * grad_sq_norm) / (N * (N - 1))
    elif dots is None:
        raise ValueError("with unequal weights the norm test needs the inner products with the mean gradient")
    else:
        spread = sum_of_squares(sq_norms - 2 * dots + grad_sq_norm, weights)
    return (spread.clamp_min(0) / grad_sq_norm).sqrt()  # rounding can leave the spread below zero


@register
class NormTest(Instrument):
    """Rises from 0 towards 1 as the mean gradient drowns in sampling noise."""

    name = "norm_test"
    configuration = "economy"
    needs = (PerSampleMoments,)
    combine: ClassVar[Mapping[str, Combine]] = {"mean_sq_norm": "sum", "grad_sq_norm": "sum"}

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        moments = step[PerSampleMoments]
        parts = {
            "mean_sq_norm": dict(
                zip(moments.names, mean(moments.layer_sq_norms, moments.weights).tolist(), strict=True)
            ),
            "grad_sq_norm": dict(zip(moments.names, moments.layer_grad_sq_norms.tolist(), strict=True)),
        }
        reason = _reason(moments)
        if reason is not None:
            return Reading(None, parts=parts, reason=reason)
        dots = None if moments.layer_dots is None else moments.dots
        theta = norm_test_theta(moments.sq_norms, moments.grad_sq_norm, moments.weights, dots)
        return Reading(theta.item(), parts=parts)


def _reason(moments: Moments) -> str | None:
    """Why there is no norm test, if there is none."""
    if moments.samples < 2:
        return "a single sample says nothing about noise"
    if float(moments.sq_norms.sum()) == 0:
        return "every individual gradient is zero"
    if moments.layer_dots is None and not _equal(moments.weights):
        return (
            "the batch came in several backward passes of unequal weight, and the inner products with its mean "
            "gradient would need all of them at once"
        )
    return None


def _equal(weights: Tensor) -> bool:
    """Up to the rounding of what micro-batches are multiplied with."""
    w = weights.numpy()
    return bool((abs(w - w[0]) <= 1e-6 * w[0]).all())
