"""Histogram of the gradient elements' magnitudes: vanishing, exploding, or lost to rounding?"""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import LayerColumn, Panel
from cockpit.probes.exponent_histogram import ExponentHistogram
from cockpit.probes.subset import Samples, Subset
from cockpit.reading import Histogram, Reading
from cockpit.schedule import Schedule
from cockpit.step import Step


@register
class GradLogHist(Instrument):
    """Counts of ``log₂|g_nj|`` by floating-point exponent, for the network and for each parameter; the share of exact
    zeros, which have no logarithm, as a part.

    Args:
        samples: Looks at part of the mini-batch only: so many samples evenly spaced, a slice, or a list of indices. How
            many they were is logged as ``grad_log_hist.samples``.
        track: When it is read.

    Raises:
        ValueError: For no samples.
    """

    name = "grad_log_hist"
    configuration = "economy"
    panel = Panel(
        title="Gradient magnitudes",
        kind="histogram",
        group="gradients",
        ylabel="elements",
        xlabel="log₂ |element|",
        how_to_read="Vanishing gradients and small inputs move it left, raw inputs right; float16 holds −24 to 16.",
        formula=r"\{\, \log_2 \lvert g_{nj} \rvert \mid g_{nj} \neq 0, \; n = 1 \dots N, \; j = 1 \dots D \,\}",
        good="One broad hill that hardly moves, at about the same place in every layer.",
        bad="Layers whose hills stand further left the deeper they lie: vanishing gradients. Below −24 elements "
        "are lost in float16. A share of zeros near 1: units behind dead activations.",
        source="Counted by floating-point exponent; zeros, which have no logarithm, are counted apart.",
        layers=(
            LayerColumn(
                "Median log₂ |g|",
                "grad_log_hist",
                place=20,
                how_to_read="Median of log₂ |gradient element|, zeros left out.",
            ),
        ),
    )

    def __init__(self, *, samples: Samples | None = None, track: int | Schedule | None = None) -> None:
        super().__init__(track=track)
        self._probe = ExponentHistogram(Subset.of(samples))
        self.needs = (self._probe,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        counts = step[self._probe]
        zeros, all_counts = counts.zeros, counts.layers
        numbers = zeros + all_counts.sum(1)
        layers = {name: Histogram(row, counts.edges) for name, row in zip(counts.names, all_counts, strict=True)}
        by_layer = {
            name: zero / number if number else None
            for name, zero, number in zip(counts.names, zeros.tolist(), numbers.tolist(), strict=True)
        }
        whole = int(numbers.sum())
        parts = {"zeros": int(zeros.sum()) / whole if whole else None, "layer_zeros": by_layer}
        if self._probe.subset is not None:
            parts["samples"] = float(counts.samples)
        return Reading(Histogram(all_counts.sum(0), counts.edges), layers, parts)
