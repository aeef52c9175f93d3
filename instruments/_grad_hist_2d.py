"""Histogram of the individual gradients' elements beside the parameters: which weights do the large ones belong to?"""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.kernels.histogram import Edges
from cockpit.panel import Panel
from cockpit.probes.pair_histogram import PairHistogram
from cockpit.probes.subset import Samples, Subset
from cockpit.reading import Histogram2d, Reading
from cockpit.schedule import Schedule
from cockpit.step import Step


@register
class GradHist2d(Instrument):
    r"""Counts of the ``N · D`` pairs :math:`(g_{nj}, \theta_j)`, for the network and for each parameter.

    Schneider et al., *Cockpit: a practical debugging tool for the training of deep neural networks* (2021), eq. (C.13).

    Args:
        low: Lower end of the gradients' range. As in :class:`GradHist1d` the default range is deliberately fixed.
        high: Upper end. Elements outside the range are counted in the end bins.
        bins: Number of equal bins for the gradients.
        parameter_low: Lower end of the parameters' range.
        parameter_high: Upper end. Without either, the range reaches as far as the parameters: the smallest power of two
            that holds 99.9 % of them at the first reading, widened where more than 1 % of them grow out of it.
        parameter_bins: Number of equal bins for the parameters.
        adaptive: Whether the gradients' range follows them, as in :class:`GradHist1d`.
        samples: Looks at part of the mini-batch only, as in :class:`GradHist1d`; logged as ``grad_hist_2d.samples``.
        track: When it is read.

    Raises:
        ValueError: For an empty range, half a range, fewer than two bins, or no samples.
    """

    name = "grad_hist_2d"
    configuration = "full"
    panel = Panel(
        title="Gradient elements and parameters",
        kind="histogram2d",
        group="gradients",
        yscale="log",
        xlabel="gradient element",
        ylabel="parameter",
        how_to_read="One column at 0 is healthy. Colour far from it stands at the height of the weights concerned.",
        formula=r"\{\, (\theta_j, g_{nj}) \mid n = 1 \dots N, \; j = 1 \dots D \,\}",
        good="A narrow column at gradient 0, as high as the parameters reach.",
        bad="Colour far from 0 stands at the height of the weights concerned: those of one layer often share a height.",
        source="Schneider et al., Cockpit: a practical debugging tool for the training of deep neural networks "
        "(2021), eq. (C.13). Pairs beyond the ranges are counted in the bins at their ends.",
    )

    def __init__(
        self, low: float = -1.0, high: float = 1.0, bins: int = 100, parameter_low: float | None = None,
        parameter_high: float | None = None, parameter_bins: int = 40, *, adaptive: bool = False,
        samples: Samples | None = None, track: int | Schedule | None = None,
    ) -> None:  # fmt: skip
        super().__init__(track=track)
        if (parameter_low is None) != (parameter_high is None):
            given = f"{parameter_low} and {parameter_high}"
            raise ValueError(f"parameter_low and parameter_high come together or not at all, got {given}")
        Edges.uniform(low, high, bins)
        if parameter_low is None or parameter_high is None:
            Edges.uniform(-1.0, 1.0, parameter_bins)
        else:
            Edges.uniform(parameter_low, parameter_high, parameter_bins)
        subset = Subset.of(samples)
        self._probe = PairHistogram(low, high, bins, adaptive, parameter_low, parameter_high, parameter_bins, subset)
        self.needs = (self._probe,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        pairs = step[self._probe]
        x, y = pairs.edges, pairs.parameter_edges
        layers = {name: Histogram2d(counts, x, y) for name, counts in zip(pairs.names, pairs.layers, strict=True)}
        parts = {} if self._probe.subset is None else {"samples": float(pairs.samples)}
        return Reading(Histogram2d(pairs.layers.sum(0), x, y), layers, parts)
