"""Histogram of all elements of all individual gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cockpit.capture.backward import BackwardPass
from cockpit.capture.embedding import EmbeddingGradients
from cockpit.capture.gradients import OuterProducts, SampleGradients
from cockpit.capture.unavailable import Unavailable
from cockpit.kernels.histogram import Edges, count_outer, count_rows
from cockpit.probes.per_sample_moments import require_coverage
from cockpit.probes.probe import Collector, Probe, Reduction, Surroundings


@dataclass(frozen=True)
class Counts:
    """Histograms by parameter.

    Args:
        names: Parameters with individual gradients, in the model's order.
        layers: Counts. Shape ``[P, bins]``.
        edges: Bin boundaries. Shape ``[bins + 1]``.
    """

    names: tuple[str, ...]
    layers: NDArray[np.int64]
    edges: NDArray[np.float64]


@dataclass(frozen=True)
class ElementHistogram(Probe[Counts]):
    """Counts of the ``N · D`` elements ``g_nj`` in equal bins; what lies outside is counted in the end bins.

    Args:
        low: Lower end of the range.
        high: Upper end.
        bins: Number of bins.
    """

    individual: ClassVar[bool] = True
    low: float = -1.0
    high: float = 1.0
    bins: int = 100

    def collector(self, surroundings: Surroundings) -> Collector[Counts]:
        """Begins a step."""
        return _HistogramCollector(self, surroundings)


class _HistogramReduction(Reduction):
    def __init__(self, edges: Edges, gradients: SampleGradients, factors: Tensor) -> None:
        self._edges, self._gradients, self._factors = edges, gradients, factors
        self.counts: NDArray[np.int64] = np.zeros(edges.bins, dtype=np.int64)

    def closed(self) -> bool:
        gradients = self._gradients
        if isinstance(gradients, OuterProducts) and gradients.positions == 1:
            inputs, deltas = gradients.inputs[:, 0], gradients.deltas[:, 0]
            self.counts += count_outer(inputs, deltas * self._factors.to(deltas.dtype).unsqueeze(1), self._edges)
            return True
        if isinstance(gradients, EmbeddingGradients):
            touched = gradients.touched
            self.counts += count_rows(touched, self._factors[gradients.sample_of], self._edges)
            # A sample's gradient is zero in every row that it did not look up.
            self.counts[self._edges.bin_of(0.0)] += gradients.samples * gradients.numel - touched.numel()
            return True
        return False

    def rows(self, start: int, rows: Tensor) -> None:
        self.counts += count_rows(rows, self._factors[start : start + len(rows)], self._edges)


class _HistogramCollector(Collector[Counts]):
    def __init__(self, probe: ElementHistogram, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._edges = Edges.uniform(probe.low, probe.high, probe.bins)
        self._counts: dict[int, list[_HistogramReduction]] = {}
        self._problem: str | None = None

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        reduction = _HistogramReduction(self._edges, gradients, backward.factors())
        self._counts.setdefault(index, []).append(reduction)
        return reduction

    def end_pass(self, backward: BackwardPass) -> None:
        try:
            backward.individual()
        except Unavailable as reason:
            self._problem = str(reason)

    def result(self) -> Counts:
        if self._problem is not None:
            raise Unavailable(self._problem)
        table, left_out = self._surroundings.table, self._surroundings.left_out
        indices = [i for i in range(len(table)) if i in self._counts and i not in left_out]
        require_coverage(self._surroundings, indices)
        layers = np.stack([np.sum([r.counts for r in self._counts[i]], axis=0) for i in indices])
        return Counts(tuple(table[i].name for i in indices), layers, self._edges.values)
