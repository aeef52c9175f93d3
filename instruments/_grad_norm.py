"""Norm of the mini-batch gradient: how steep is the wall?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from cockpit.instrument import Instrument, register
from cockpit.layers import Combine
from cockpit.panel import Panel
from cockpit.probes.gradient_norms import GradientNorms
from cockpit.reading import Reading
from cockpit.step import Step


@register
class GradNorm(Instrument):
    r""":math:`\lVert g \rVert_2` before clipping and at scale 1, over all parameters and for each."""

    name = "grad_norm"
    configuration = "economy"
    needs = (GradientNorms,)
    combine: ClassVar[Mapping[str, Combine]] = {"": "norm"}
    panel = Panel(
        title="Gradient norm",
        kind="lines",
        group="gradients",
        yscale="log",
        ylabel="‖g‖",
        how_to_read="Tiny updates with a large norm: the learning rate is too small. With a tiny norm: a plateau.",
        formula=r"\lVert g \rVert_2, \qquad g = \frac{1}{N} \sum_n g_n",
        good="A slow decline or a plateau, with noise around it.",
        bad="Single spikes come before a bad step: clip, or lower the learning rate. Falling by orders of "
        "magnitude while the loss stands still: a plateau, or saturated units.",
        source="Schneider et al., Cockpit: a practical debugging tool for the training of deep neural networks "
        "(2021), section 7.2. Of this backward pass, before accumulation, clipping and the loss scale.",
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        norms = step[GradientNorms]
        return Reading(norms.total(), norms.by_layer())
