"""Histogram of the individual gradients' elements: what is happening in the network?"""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.element_histogram import ElementHistogram
from cockpit.reading import Histogram, Reading
from cockpit.schedule import Schedule
from cockpit.step import Step


@register
class GradHist1d(Instrument):
    """Counts of the ``N · D`` elements of the individual gradients, for the network and for each parameter.

    Args:
        low: Lower end of the range. The default range is deliberately fixed: badly scaled data show at a glance.
        high: Upper end. Elements outside the range are counted in the end bins.
        bins: Number of equal bins.
        track: When it is read.

    Raises:
        ValueError: For an empty range or fewer than two bins.
    """

    name = "grad_hist_1d"
    configuration = "economy"
    panel = Panel(
        title="Gradient elements",
        kind="histogram",
        group="gradients",
        yscale="log",
        ylabel="elements",
        how_to_read="Healthy networks crowd around 0. Bars at both ends mean badly scaled data or exploding gradients.",
    )

    def __init__(
        self, low: float = -1.0, high: float = 1.0, bins: int = 100, *, track: int | Schedule | None = None
    ) -> None:
        super().__init__(track=track)
        if not low < high or bins < 2:
            raise ValueError(f"a histogram needs low < high and at least 2 bins, got [{low}, {high}] in {bins}")
        self._probe = ElementHistogram(low, high, bins)
        self.needs = (self._probe,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        counts = step[self._probe]
        layers = {name: Histogram(row, counts.edges) for name, row in zip(counts.names, counts.layers, strict=True)}
        return Reading(Histogram(counts.layers.sum(0), counts.edges), layers)
