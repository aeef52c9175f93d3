"""Histogram of the binary exponents of all elements of all individual gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cockpit.capture.backward import BackwardPass, pooled_shares
from cockpit.capture.embedding import EmbeddingGradients
from cockpit.capture.gradients import OuterProducts, SampleGradients, Zeros
from cockpit.capture.unavailable import Unavailable
from cockpit.kernels.exponents import EDGES, count_outer, count_rows
from cockpit.probes.per_sample_moments import covered
from cockpit.probes.probe import Collector, Probe, Reduction, Surroundings


@dataclass(frozen=True)
class ExponentCounts:
    """Histograms of ``log₂|g_nj|`` by parameter.

    Args:
        names: Parameters with individual gradients, in the model's order.
        layers: Counts of the elements that are not zero. Shape ``[P, bins]``.
        zeros: How many are. Shape ``[P]``.
        edges: Bin boundaries of the logarithm. Shape ``[bins + 1]``.
    """

    names: tuple[str, ...]
    layers: NDArray[np.int64]
    zeros: NDArray[np.int64]
    edges: NDArray[np.float64]


@dataclass(frozen=True)
class ExponentHistogram(Probe[ExponentCounts]):
    """Counts of the ``N · D`` elements ``g_nj`` by exponent, see :mod:`cockpit.kernels.exponents`."""

    individual: ClassVar[bool] = True

    def collector(self, surroundings: Surroundings) -> Collector[ExponentCounts]:
        """Begins a step."""
        return _ExponentCollector(surroundings)


class _ExponentReduction(Reduction):
    def __init__(self, gradients: SampleGradients, factors: Tensor, like: Tensor) -> None:
        self._factors = factors
        self._gradients: SampleGradients | None = gradients
        self.samples = gradients.samples
        self.counts = torch.zeros(len(EDGES), dtype=torch.int64, device=like.device)

    def closed(self) -> bool:
        gradients = self._gradients
        if isinstance(gradients, OuterProducts) and gradients.positions == 1:
            deltas = gradients.deltas[:, 0]
            self.counts += count_outer(gradients.inputs[:, 0], deltas * self._factors.to(deltas).unsqueeze(1))
        elif isinstance(gradients, Zeros):
            self.counts[0] += gradients.samples * gradients.numel
        elif isinstance(gradients, EmbeddingGradients):
            touched = gradients.touched
            self.counts += count_rows(touched, self._factors.to(touched)[gradients.sample_of])
            # A sample's gradient is zero in every row that it did not look up.
            self.counts[0] += gradients.samples * gradients.numel - touched.numel()
        else:
            return False
        return True

    def rows(self, start: int, rows: Tensor) -> None:
        self.counts += count_rows(rows, self._factors[start : start + len(rows)].to(rows))

    def finish(self) -> None:
        self._gradients = None


class _ExponentCollector(Collector[ExponentCounts]):
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._reductions: dict[int, list[_ExponentReduction]] = {}
        self._passes: list[BackwardPass] = []

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        reduction = _ExponentReduction(gradients, backward.factors(), gradient)
        self._reductions.setdefault(index, []).append(reduction)
        return reduction

    def end_pass(self, backward: BackwardPass) -> None:
        self._passes.append(backward)

    def result(self) -> ExponentCounts:
        if not self._passes:
            raise Unavailable("no backward pass was seen")
        pooled_shares(self._passes)
        samples = sum(len(backward.weights()) for backward in self._passes)
        table, indices = self._surroundings.table, covered(self._surroundings, self._reductions)
        totals = [torch.stack([r.counts for r in self._reductions[i]]).sum(0) for i in indices]
        counts = torch.stack(totals).cpu().numpy()
        for row, i in zip(counts, indices, strict=True):
            # Micro-batches that did not use a parameter have no gradient there: zeros, as in one large batch.
            row[0] += (samples - sum(r.samples for r in self._reductions[i])) * table[i].tensor.numel()
        return ExponentCounts(tuple(table[i].name for i in indices), counts[:, 1:], counts[:, 0], EDGES)
