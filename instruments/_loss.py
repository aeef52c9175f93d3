"""Mini-batch loss."""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.step import Step


@register
class Loss(Instrument):
    """The loss that was trained on, as the user computed it: a sum where it was a sum."""

    name = "loss"
    configuration = "economy"

    def compute(self, steps: Sequence[Step]) -> float | None:
        (step,) = steps
        return step.loss
