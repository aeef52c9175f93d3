"""Translation symmetry: does the optimizer move all scores of a softmax together, as no gradient does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from cockpit.instrument import Instrument, register
from cockpit.layers import Combine
from cockpit.panel import LayerColumn, Panel
from cockpit.probes.unit_symmetry import TranslationDeviations
from cockpit.reading import Reading
from cockpit.readings.symmetry import reading
from cockpit.step import Step


@register
class TranslationSymmetry(Instrument):
    r"""Median over the inputs of layers before a softmax, and their biases, of the cosine between update and
    :math:`(1, \dots, 1)`, without its sign; weight decay is subtracted. Quantiles, :math:`\sum_j |\cdot|`, the
    gradient's own median and the weight decay as parts."""

    name = "translation_symmetry"
    needs = (TranslationDeviations,)
    combine: ClassVar[Mapping[str, Combine]] = {"layer_sum": "sum"}
    panel = Panel(
        title="Translation symmetry",
        kind="lines",
        keys=("translation_symmetry", "translation_symmetry.gradient", "translation_symmetry.sum"),
        group="steps",
        yscale="log",
        band=("translation_symmetry.q05", "translation_symmetry.q95"),
        how_to_read="What the update adds to all scores of a softmax alike, which changes no output; no gradient does, "
        "so that gradient descent stays at rounding. The band holds 90 % of the inputs.",
        formula=r"d_j = \sum_k \left( u_{kj} - c \, w_{kj} \right), \qquad u = -s"
        "\n"
        r"|\cos_j| = \frac{|d_j|}{\sqrt{K} \, \lVert u_{\cdot j} - c \, w_{\cdot j} \rVert}",
        good="At rounding for gradient descent, whatever its momentum and weight decay. Adaptive, sign and learned "
        "optimizers lie at 0.01 to 0.5.",
        bad="A growing sum: part of every step is spent on what changes no output. Scores that drift together are "
        "rounded more coarsely; in half precision that may cost accuracy.",
        source="Kunin et al., Neural mechanics: symmetry and broken conservation laws in deep learning dynamics "
        "(2021). The update is measured, whatever optimizer made it.",
        layers=(
            LayerColumn(
                "Translation symmetry",
                "translation_symmetry",
                scale="log",
                place=62,
                how_to_read="Median over the layer's inputs of |cos| between update and (1, …, 1).",
            ),
        ),
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        return reading(step[TranslationDeviations], "no layer has outputs that go into a softmax and nowhere else")
