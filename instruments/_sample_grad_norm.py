"""Norms of the individual gradients: does one sample drive the step?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.reading import Reading
from cockpit.step import Step

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def largest_share(sq_norms: Tensor) -> tuple[float, int]:
    r"""The sample with the largest gradient.

    Args:
        sq_norms: :math:`\lVert g_n \rVert^2`, shape ``[N]``.

    Returns:
        Its share of :math:`\sum_n \lVert g_n \rVert^2`, NaN where all gradients are zero, and its index in the batch.

    Example:
        >>> largest_share(torch.tensor([1.0, 3.0]))
        (0.75, 1)
    """
    index = int(sq_norms.argmax())
    return float(sq_norms[index] / sq_norms.sum()), index


def quantiles_of(values: Tensor, shares: Sequence[float]) -> list[float]:
    """Quantiles with linear interpolation between neighbours, for few values far faster than :func:`torch.quantile`.

    Args:
        values: Finite. Shape ``[N]``.
        shares: Between 0 and 1.

    Example:
        >>> quantiles_of(torch.tensor([3.0, 1.0]), (0.0, 0.75))
        [1.0, 2.5]
    """
    ordered = np.sort(values.numpy()).tolist()
    last = len(ordered) - 1
    quantiles = []
    for share in shares:
        place = int(share * last)
        below, above = ordered[place], ordered[min(place + 1, last)]
        quantiles.append(below + (share * last - place) * (above - below))
    return quantiles


@register
class SampleGradNorm(Instrument):
    """Median of ``‖g_n‖`` over the batch; its other quantiles, the largest sample's share and index as parts."""

    name = "sample_grad_norm"
    configuration = "economy"
    needs = (PerSampleMoments,)
    panel = Panel(
        title="Gradient norm by sample",
        kind="lines",
        keys=("sample_grad_norm", "sample_grad_norm.largest_share"),
        group="gradients",
        yscale="log",
        how_to_read="A largest share far above 1/N means that one sample, perhaps mislabelled, drives the step.",
        formula=r"\mathrm{median}_n \lVert g_n \rVert"
        "\n"
        r"\text{largest share} = \frac{\max_n \lVert g_n \rVert^2}{\sum_n \lVert g_n \rVert^2}",
        good="Quantiles that stay together, and a largest share of a few times 1/N.",
        bad="A largest share near 1: one sample makes the step. Look at it: it may be mislabelled, or broken; its "
        "place in the batch is logged as the largest index.",
        source="Quantiles over the mini-batch of the norms of the individual gradients.",
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        moments = step[PerSampleMoments]
        squares = moments.sq_norms if moments.samples == len(moments.weights) else moments.sq_norms[moments.weights > 0]
        total = float(squares.sum())
        if not math.isfinite(total):
            return Reading(float("nan"))
        quantiles = quantiles_of(squares.sqrt(), QUANTILES)
        parts = {f"q{round(100 * q):02d}": value for q, value in zip(QUANTILES, quantiles, strict=True)}
        if total > 0:
            parts["largest_share"], parts["largest_index"] = largest_share(moments.sq_norms)
        return Reading(parts.pop("q50"), parts=parts)
