"""Histogram of all elements of all individual gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.kernels.histogram import Edges, count_outer, count_rows
from cockpit.probes.counting import Counter, Counting
from cockpit.probes.pair_histogram import PairCounts, PairHistogram
from cockpit.probes.probe import Collector, Probe, Reduction, Surroundings
from cockpit.probes.ranges import AdaptiveRange
from cockpit.probes.subset import Subset


@dataclass(frozen=True)
class Counts:
    """Histograms by parameter.

    Args:
        names: Parameters with individual gradients, in the model's order.
        layers: Counts. Shape ``[P, bins]``.
        edges: Bin boundaries. Shape ``[bins + 1]``.
        samples: How many samples were looked at.
    """

    names: tuple[str, ...]
    layers: NDArray[np.int64]
    edges: NDArray[np.float64]
    samples: int


@dataclass(frozen=True)
class ElementHistogram(Probe[Counts]):
    """Counts of the ``N · D`` elements ``g_nj`` in equal bins; what lies outside is counted in the end bins.

    Args:
        low: Lower end of the range.
        high: Upper end.
        bins: Number of bins.
        adaptive: Whether the range is moved, see :class:`cockpit.probes.ranges.AdaptiveRange`; it begins at ``high``.
        subset: Which samples are looked at; ``None`` for all.
    """

    individual: ClassVar[bool] = True
    low: float = -1.0
    high: float = 1.0
    bins: int = 100
    adaptive: bool = False
    subset: Subset | None = None

    def collector(self, surroundings: Surroundings) -> Collector[Counts]:
        """Begins a step."""
        return _HistogramCollector(self, surroundings)

    def contained_in(self, other: Probe[Any]) -> bool:
        """In pairs with the same edges, of the same samples: it is their marginal."""
        return isinstance(other, PairHistogram) and all(
            getattr(other, name) == getattr(self, name) for name in ("low", "high", "bins", "adaptive", "subset")
        )

    def extract(self, result: PairCounts) -> Counts:
        """The marginal."""
        return Counts(result.names, result.layers.sum(2) + result.strays, result.edges, result.samples)


class _ElementCounter(Counter):
    def __init__(self, edges: Edges, parameter: Tensor) -> None:
        self._edges, self._numel = edges, parameter.numel()
        self.counts = parameter.new_zeros(edges.bins, dtype=torch.int64)

    def rows(self, rows: Tensor, factors: Tensor) -> None:
        self.counts += count_rows(rows, factors, self._edges)

    def outer(self, inputs: Tensor, deltas: Tensor) -> None:
        self.counts += count_outer(inputs, deltas, self._edges)

    def lookups(self, rows: Tensor, factors: Tensor, owners: Tensor) -> None:
        self.rows(rows, factors)
        self.counts[self._edges.bin_of(0.0)] -= rows.numel()

    def zeros(self, samples: int) -> None:
        self.counts[self._edges.bin_of(0.0)] += samples * self._numel


class _HistogramCollector(Collector[Counts]):
    def __init__(self, probe: ElementHistogram, surroundings: Surroundings) -> None:
        low, high = probe.low, probe.high
        self._range: AdaptiveRange | None = None
        if probe.adaptive:
            self._range = surroundings.memory.setdefault(probe, AdaptiveRange(high))
            low, high = -self._range.high, self._range.high
        self._edges = Edges.uniform(low, high, probe.bins)
        table = surroundings.table
        self._counting = Counting(
            surroundings, probe.subset, lambda index: _ElementCounter(self._edges, table[index].tensor)
        )

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        return self._counting.reduction(index, gradients, backward)

    def end_pass(self, backward: BackwardPass) -> None:
        self._counting.end_pass(backward)

    def result(self) -> Counts:
        totals = self._counting.totals()
        if self._range is not None:
            self._range.observe(totals.counts.sum(0))
        return Counts(totals.names, totals.counts, self._edges.values, totals.samples)
