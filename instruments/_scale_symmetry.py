"""Scale symmetry: does the optimizer change the length of weights before batch normalisation, as no gradient does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from cockpit.instrument import Instrument, register
from cockpit.layers import Combine
from cockpit.panel import LayerColumn, Panel
from cockpit.probes.unit_symmetry import ScaleDeviations
from cockpit.reading import Reading
from cockpit.readings.symmetry import reading
from cockpit.step import Step


@register
class ScaleSymmetry(Instrument):
    r"""Median over the units before batch normalisation of the cosine between update and weights, without its sign;
    quantiles, :math:`\sum_j |\cdot|` and the gradient's own median as parts."""

    name = "scale_symmetry"
    needs = (ScaleDeviations,)
    combine: ClassVar[Mapping[str, Combine]] = {"layer_sum": "sum"}
    panel = Panel(
        title="Scale symmetry",
        kind="lines",
        keys=("scale_symmetry", "scale_symmetry.gradient", "scale_symmetry.sum"),
        group="steps",
        yscale="log",
        band=("scale_symmetry.q05", "scale_symmetry.q95"),
        how_to_read="What the update has along the weights before batch normalisation; no gradient has any, so that "
        "gradient descent stays at rounding. The band holds 90 % of the units.",
        formula=r"d_j = \langle u_j, w_j \rangle, \qquad u = -s"
        "\n"
        r"|\cos_j| = \frac{|d_j|}{\lVert u_j \rVert \, \lVert w_j \rVert}",
        good="At rounding for gradient descent without weight decay. Adaptive, sign and learned optimizers lie at 0.01 "
        "to 0.5.",
        bad="Values near 1: the update is all length, and batch normalisation undoes it; too much weight decay, or a "
        "unit that nothing trains.",
        source="Kunin et al., Neural mechanics: symmetry and broken conservation laws in deep learning dynamics "
        "(2021); of optimizers, Sobotka and Šimánek, Investigation into training dynamics of learned optimizers. The "
        "update is measured, whatever optimizer made it.",
        layers=(
            LayerColumn(
                "Scale symmetry",
                "scale_symmetry",
                scale="log",
                place=61,
                how_to_read="Median over the layer's units of |cos| between update and weights.",
            ),
        ),
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        return reading(step[ScaleDeviations], "no layer lies before batch normalisation in training mode")
