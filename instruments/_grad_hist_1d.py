"""Histogram of the individual gradients' elements: what is happening in the network?"""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.kernels.histogram import Edges
from cockpit.panel import Panel
from cockpit.probes.element_histogram import ElementHistogram
from cockpit.probes.subset import Samples, Subset
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
        adaptive: Whether the range follows the elements: from ``-high`` to ``high``, where ``high`` becomes a power of
            two that holds 99.9 % of them, found in the first readings and changed rarely after that.
        samples: Looks at part of the mini-batch only: so many samples evenly spaced, a slice, or a list of indices. How
            many they were is logged as ``grad_hist_1d.samples``.
        track: When it is read.

    Raises:
        ValueError: For an empty range, fewer than two bins, or no samples.
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
        formula=r"\{\, g_{nj} \mid n = 1 \dots N, \; j = 1 \dots D \,\}",
        good="One narrow peak at 0, thin tails, empty ends.",
        bad="Bars at both ends: inputs that are not scaled, or gradients that explode. A single bar at exactly 0: "
        "gradients vanish, or nothing is trained.",
        source="Schneider et al., Cockpit: a practical debugging tool for the training of deep neural networks "
        "(2021), eq. (C.12). Elements beyond the range are counted in the bins at its ends.",
    )

    def __init__(
        self, low: float = -1.0, high: float = 1.0, bins: int = 100, *, adaptive: bool = False,
        samples: Samples | None = None, track: int | Schedule | None = None,
    ) -> None:  # fmt: skip
        super().__init__(track=track)
        Edges.uniform(low, high, bins)
        self._probe = ElementHistogram(low, high, bins, adaptive, Subset.of(samples))
        self.needs = (self._probe,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        counts = step[self._probe]
        layers = {name: Histogram(row, counts.edges) for name, row in zip(counts.names, counts.layers, strict=True)}
        parts = {} if self._probe.subset is None else {"samples": float(counts.samples)}
        return Reading(Histogram(counts.layers.sum(0), counts.edges), layers, parts)
