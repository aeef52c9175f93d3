"""Mini-batch loss."""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.reading import Reading
from cockpit.step import Step


@register
class Loss(Instrument):
    """The loss that was trained on, as the user computed it: a sum where it was a sum; as a part, what it would be for
    somebody who holds all classes for equally likely, where it is a classification."""

    name = "loss"
    configuration = "economy"

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        return Reading(step.loss, parts={} if step.chance is None else {"chance": step.chance})
