"""Rescale symmetry: does the optimizer shift weight between a unit's two sides, as no gradient does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from cockpit.instrument import Instrument, register
from cockpit.layers import Combine
from cockpit.panel import LayerColumn, Panel
from cockpit.probes.unit_symmetry import RescaleDeviations
from cockpit.reading import Reading
from cockpit.readings.symmetry import reading
from cockpit.step import Step


@register
class RescaleSymmetry(Instrument):
    r"""Median over the hidden units of the cosine between update and :math:`(w_{in}, b, -w_{out})`, without its sign;
    quantiles, :math:`\sum_j |\cdot|` and the gradient's own median as parts."""

    name = "rescale_symmetry"
    needs = (RescaleDeviations,)
    combine: ClassVar[Mapping[str, Combine]] = {"layer_sum": "sum"}
    panel = Panel(
        title="Rescale symmetry",
        kind="lines",
        keys=("rescale_symmetry", "rescale_symmetry.gradient", "rescale_symmetry.sum"),
        group="steps",
        yscale="log",
        band=("rescale_symmetry.q05", "rescale_symmetry.q95"),
        how_to_read="What the update shifts between the weights into a unit and those out of it; no gradient does, so "
        "gradient descent stays at rounding. The band holds 90 % of the units.",
        formula=r"d_j = \langle u_{in}, w_{in} \rangle + u_b b - \langle u_{out}, w_{out} \rangle, \qquad u = -s"
        "\n"
        r"|\cos_j| = \frac{|d_j|}{\lVert (u_{in}, u_b, u_{out}) \rVert \; \lVert (w_{in}, b, w_{out}) \rVert}",
        good="At rounding for gradient descent, with momentum a little above it. Adaptive, sign and learned optimizers "
        "lie at 0.01 to 0.5: that is their freedom, and no fault.",
        bad="Gradient descent that lies far above rounding: weight decay or a penalty rescales the units. A curve of "
        "the gradient that does: the loss itself is not symmetric.",
        source="Kunin et al., Neural mechanics: symmetry and broken conservation laws in deep learning dynamics "
        "(2021); of optimizers, Sobotka and Šimánek, Investigation into training dynamics of learned optimizers. The "
        "update is measured, whatever optimizer made it.",
        layers=(
            LayerColumn(
                "Rescale symmetry",
                "rescale_symmetry",
                scale="log",
                place=60,
                how_to_read="Median over the layer's units of |cos| between update and what rescales them.",
            ),
        ),
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        return reading(step[RescaleDeviations], "no unit lies between two layers with a ReLU or its like")
