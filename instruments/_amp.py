"""Loss scaling of mixed precision: how large is the scale, and which steps does it cost?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.optimizer_input import LossScale
from cockpit.reading import Reading
from cockpit.step import Step

FLOAT16 = (-24.0, math.log2(65504))
"""Binary logarithms of the smallest and the largest magnitude that float16 holds."""


@register
class Amp(Instrument):
    """The loss scale; as parts, whether the step was skipped, and the binary logarithms of the smallest and the largest
    unscaled gradient that float16 holds at this scale. Missing where no scaler is in use."""

    name = "amp"
    configuration = "economy"
    needs = (LossScale,)
    panel = Panel(
        title="Loss scale",
        kind="lines",
        keys=("amp", "amp.skipped"),
        group="bottom",
        yscale="log",
        optional=True,
        how_to_read="A skipped step halves the scale; a scale that only falls means gradients that overflow whatever "
        "the scale.",
        formula=r"\text{loss scale} = \frac{\text{what backward is called on}}{L}",
        good="A scale that settles, with a skipped step once in a few hundred or thousand.",
        bad="Skipped steps in a row, and a scale that falls each time: the gradients themselves are infinite or "
        "not numbers.",
        source="The constant that the loss is multiplied with before its backward pass, as gradient scalers do: "
        "Micikevicius et al., Mixed precision training (2018).",
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        scaled = step[LossScale]
        if scaled is None:
            return Reading(None)
        parts = {"skipped": float(scaled.skipped)}
        if 0 < scaled.scale < math.inf:
            parts["smallest"], parts["largest"] = (power - math.log2(scaled.scale) for power in FLOAT16)
        return Reading(scaled.scale, parts=parts)
