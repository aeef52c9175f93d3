"""What the model is fed: is the data scaled, and is it what one thinks it is?"""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.batch import Batch
from cockpit.reading import Reading
from cockpit.step import Step


@register
class Input(Instrument):
    """Standard deviation of the batch; mean, minimum, maximum and the width of its dtype in bits as parts."""

    name = "input"
    configuration = "economy"
    needs = (Batch,)
    panel = Panel(
        title="Input",
        kind="lines",
        keys=("input.max", "input.mean", "input.min", "input"),
        group="data",
        how_to_read="Real-valued inputs do best with mean 0 and standard deviation 1; a jump is another kind of batch.",
        formula=r"\mathrm{std}(x) = \sqrt{\mathrm{mean}(x^2) - \mathrm{mean}(x)^2}",
        good="Mean near 0 and standard deviation near 1 for real-valued inputs, the same in every batch.",
        bad="A standard deviation of 70 and a maximum of 255: raw pixels. A jump: another kind of batch, or "
        "augmentation gone wrong. A standard deviation of 0: a constant batch.",
        source="Over all elements of the first tensor that the model is called with; token ids count as numbers.",
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        batch = step[Batch]
        if batch is None:
            return Reading(None, reason="the model itself was not called with a tensor of numbers")
        parts = {"mean": batch.mean, "min": batch.least, "max": batch.largest, "bits": float(batch.bits)}
        return Reading(batch.deviation, parts=parts, note=f"the input is of dtype {batch.dtype}")
