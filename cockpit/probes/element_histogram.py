"""Histogram of all elements of all individual gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cockpit.capture.backward import BackwardPass, pooled_shares
from cockpit.capture.embedding import EmbeddingGradients
from cockpit.capture.gradients import OuterProducts, SampleGradients, Zeros
from cockpit.capture.unavailable import Unavailable
from cockpit.kernels.histogram import Edges, count_outer, count_rows
from cockpit.probes.per_sample_moments import covered
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
        self._edges, self._factors = edges, factors
        self._gradients: SampleGradients | None = gradients
        self.samples = gradients.samples
        self.counts: NDArray[np.int64] = np.zeros(edges.bins, dtype=np.int64)

    def closed(self) -> bool:
        gradients = self._gradients
        if isinstance(gradients, OuterProducts) and gradients.positions == 1:
            inputs, deltas = gradients.inputs[:, 0], gradients.deltas[:, 0]
            self.counts += count_outer(inputs, deltas * self._factors.to(deltas.dtype).unsqueeze(1), self._edges)
            return True
        if isinstance(gradients, Zeros):
            self.counts[self._edges.bin_of(0.0)] += gradients.samples * gradients.numel
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

    def finish(self) -> None:
        self._gradients = None


class _HistogramCollector(Collector[Counts]):
    def __init__(self, probe: ElementHistogram, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._edges = Edges.uniform(probe.low, probe.high, probe.bins)
        self._counts: dict[int, list[_HistogramReduction]] = {}
        self._passes: list[BackwardPass] = []

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        reduction = _HistogramReduction(self._edges, gradients, backward.factors())
        self._counts.setdefault(index, []).append(reduction)
        return reduction

    def end_pass(self, backward: BackwardPass) -> None:
        self._passes.append(backward)

    def result(self) -> Counts:
        if not self._passes:
            raise Unavailable("no backward pass was seen")
        pooled_shares(self._passes)
        samples = sum(len(backward.weights()) for backward in self._passes)
        table, indices = self._surroundings.table, covered(self._surroundings, self._counts)
        layers = np.stack([np.sum([r.counts for r in self._counts[i]], axis=0) for i in indices])
        for row, i in zip(layers, indices, strict=True):
            # Micro-batches that did not use a parameter have no gradient there: zeros, as in one large batch.
            unseen = samples - sum(reduction.samples for reduction in self._counts[i])
            row[self._edges.bin_of(0.0)] += unseen * table[i].tensor.numel()
        return Counts(tuple(table[i].name for i in indices), layers, self._edges.values)
