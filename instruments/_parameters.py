"""Values of the parameters: where do the weights lie, and where do they go?"""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.parameter_values import ParameterValues
from cockpit.reading import Histogram, Reading
from cockpit.schedule import Schedule
from cockpit.step import Step


@register
class Parameters(Instrument):
    """Histogram of ``θ(t)`` before the step, for the network and for each parameter; mean and standard deviation of
    each parameter as parts. No configuration holds it: ask for it by name.

    Args:
        low: Lower end of the range, fixed over the run so that steps compare.
        high: Upper end. Values outside the range are counted in the end bins.
        bins: Number of equal bins.
        values: Whether the values themselves are logged too, as they are, to the last bit (in half precision as the
            float32 they are equal to): ``run["parameters"].at(step)`` gives them by name. They are many: choose
            ``track`` with the log's size in mind.
        track: When it is read.

    Raises:
        ValueError: For an empty range or fewer than two bins.
    """

    name = "parameters"
    panel = Panel(
        title="Parameters",
        kind="histogram",
        group="steps",
        yscale="log",
        ylabel="parameters",
        how_to_read="Weights that pile up in the end bins have grown too large; a peak at 0 alone learns nothing.",
        formula=r"\{\, \theta_j \mid j = 1 \dots D \,\}",
        good="One hill around 0 that slowly becomes wider.",
        bad="Weights that pile up at the ends have grown too large: weight decay, or a smaller learning rate. A "
        "peak at 0 alone: weight decay wins, or nothing learns.",
        source="The values themselves, counted in bins; those beyond the range in the bins at its ends.",
    )

    def __init__(
        self,
        low: float = -1.0,
        high: float = 1.0,
        bins: int = 200,
        *,
        values: bool = False,
        track: int | Schedule | None = None,
    ) -> None:
        super().__init__(track=track)
        if not low < high or bins < 2:
            raise ValueError(f"a histogram needs low < high and at least 2 bins, got [{low}, {high}] in {bins}")
        self._probe = ParameterValues(low, high, bins, values)
        self.needs = (self._probe,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        values = step[self._probe]
        layers = {name: Histogram(row, values.edges) for name, row in zip(values.names, values.counts, strict=True)}
        parts = {
            "mean": dict(zip(values.names, values.means.tolist(), strict=True)),
            "std": dict(zip(values.names, values.deviations.tolist(), strict=True)),
        }
        kept = dict(zip(values.names, values.values, strict=True)) if values.values else {}
        return Reading(Histogram(values.counts.sum(0), values.edges), layers, parts, arrays=kept)
