"""Histogram of all elements of all individual gradients beside the parameters they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.kernels.histogram import Edges
from cockpit.kernels.pairs import Partners, pair_lookups, pair_outer, pair_rows
from cockpit.probes.counting import Counter, Counting
from cockpit.probes.probe import Collector, Probe, Reduction, Surroundings
from cockpit.probes.ranges import AdaptiveRange, reach
from cockpit.probes.subset import Subset


@dataclass(frozen=True)
class PairCounts:
    """Histograms of pairs by parameter.

    Args:
        names: Parameters with individual gradients, in the model's order.
        layers: Counts. Shape ``[P, bins, parameter bins]``.
        strays: Counts of elements whose parameter is NaN. Shape ``[P, bins]``.
        edges: Bin boundaries of the gradients' elements. Shape ``[bins + 1]``.
        parameter_edges: Bin boundaries of the parameters. Shape ``[parameter bins + 1]``.
        samples: How many samples were looked at.
    """

    names: tuple[str, ...]
    layers: NDArray[np.int64]
    strays: NDArray[np.int64]
    edges: NDArray[np.float64]
    parameter_edges: NDArray[np.float64]
    samples: int


@dataclass(frozen=True)
class PairHistogram(Probe[PairCounts]):
    """Counts of the ``N · D`` pairs ``(g_nj, θ_j)`` in equal bins; what lies outside is counted in the end bins.

    Args:
        low: Lower end of the gradients' range.
        high: Upper end.
        bins: Number of bins.
        adaptive: Whether this range is moved, see :class:`cockpit.probes.ranges.AdaptiveRange`; it begins at ``high``.
        parameter_low: Lower end of the parameters' range.
        parameter_high: Upper end. ``None``, as the lower end: as far as the parameters reach, see
            :func:`cockpit.probes.ranges.reach`; widened where they grow out of it.
        parameter_bins: Number of bins.
        subset: Which samples are looked at; ``None`` for all.
    """

    individual: ClassVar[bool] = True
    low: float = -1.0
    high: float = 1.0
    bins: int = 100
    adaptive: bool = False
    parameter_low: float | None = None
    parameter_high: float | None = None
    parameter_bins: int = 40
    subset: Subset | None = None

    def collector(self, surroundings: Surroundings) -> Collector[PairCounts]:
        """Begins a step."""
        return _PairCollector(self, surroundings)


class _PairCounter(Counter):
    def __init__(self, edges: Edges, partners: Partners) -> None:
        self._edges, self._partners = edges, partners
        self.counts = partners.places.new_zeros((edges.bins, partners.bins), dtype=torch.int64)

    def rows(self, rows: Tensor, factors: Tensor) -> None:
        self.counts += pair_rows(rows, factors, self._edges, self._partners)

    def outer(self, inputs: Tensor, deltas: Tensor) -> None:
        self.counts += pair_outer(inputs, deltas, self._edges, self._partners)

    def lookups(self, rows: Tensor, factors: Tensor, owners: Tensor) -> None:
        self.counts += pair_lookups(rows, factors, owners, self._edges, self._partners)
        self.counts[self._edges.bin_of(0.0)] -= self._partners.totals(owners)

    def zeros(self, samples: int) -> None:
        self.counts[self._edges.bin_of(0.0)] += samples * self._partners.totals()


class _PairCollector(Collector[PairCounts]):
    def __init__(self, probe: PairHistogram, surroundings: Surroundings) -> None:
        self._probe = probe
        if probe not in surroundings.memory:
            surroundings.memory[probe] = _ranges(probe, surroundings)
        self._range, self._parameter_range = surroundings.memory[probe]
        self._edges = _edges(self._range, probe.low, probe.high, probe.bins)
        low, high = probe.parameter_low, probe.parameter_high
        self._parameter_edges = _edges(self._parameter_range, low, high, probe.parameter_bins)
        table = surroundings.table
        self._counting = Counting(
            surroundings,
            probe.subset,
            lambda index: _PairCounter(self._edges, Partners.of(table[index].tensor, self._parameter_edges)),
        )

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        return self._counting.reduction(index, gradients, backward)

    def end_pass(self, backward: BackwardPass) -> None:
        self._counting.end_pass(backward)

    def result(self) -> PairCounts:
        totals = self._counting.totals()
        counts = totals.counts.sum(0)
        if self._range is not None:
            self._range.observe(counts.sum(1))
        if self._parameter_range is not None:
            self._parameter_range.observe(counts.sum(0)[:-1])
        edges = self._edges.values, self._parameter_edges.values
        return PairCounts(totals.names, totals.counts[:, :, :-1], totals.counts[:, :, -1], *edges, totals.samples)


def _ranges(probe: PairHistogram, surroundings: Surroundings) -> tuple[AdaptiveRange | None, AdaptiveRange | None]:
    """Those that are not given: of the gradients and of the parameters."""
    of_parameters = None
    if probe.parameter_high is None:
        of_parameters = AdaptiveRange(reach([parameter.tensor for parameter in surroundings.table]), settled=True)
    return AdaptiveRange(probe.high) if probe.adaptive else None, of_parameters


def _edges(found: AdaptiveRange | None, low: float | None, high: float | None, bins: int) -> Edges:
    if found is not None:
        return Edges.uniform(-found.high, found.high, bins)
    assert low is not None
    assert high is not None
    return Edges.uniform(low, high, bins)
