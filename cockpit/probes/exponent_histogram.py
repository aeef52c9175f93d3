"""Histogram of the binary exponents of all elements of all individual gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.kernels.exponents import EDGES, count_outer, count_rows
from cockpit.probes.counting import Counter, Counting
from cockpit.probes.probe import Collector, Probe, Reduction, Surroundings
from cockpit.probes.subset import Subset


@dataclass(frozen=True)
class ExponentCounts:
    """Histograms of ``log₂|g_nj|`` by parameter.

    Args:
        names: Parameters with individual gradients, in the model's order.
        layers: Counts of the elements that are not zero. Shape ``[P, bins]``.
        zeros: How many are. Shape ``[P]``.
        edges: Bin boundaries of the logarithm. Shape ``[bins + 1]``.
        samples: How many samples were looked at.
    """

    names: tuple[str, ...]
    layers: NDArray[np.int64]
    zeros: NDArray[np.int64]
    edges: NDArray[np.float64]
    samples: int


@dataclass(frozen=True)
class ExponentHistogram(Probe[ExponentCounts]):
    """Counts of the ``N · D`` elements ``g_nj`` by exponent, see :mod:`cockpit.kernels.exponents`.

    Args:
        subset: Which samples are looked at; ``None`` for all.
    """

    individual: ClassVar[bool] = True
    subset: Subset | None = None

    def collector(self, surroundings: Surroundings) -> Collector[ExponentCounts]:
        """Begins a step."""
        return _ExponentCollector(self, surroundings)


class _ExponentCounter(Counter):
    """Zeros first, then the bins."""

    def __init__(self, parameter: Tensor) -> None:
        self._numel = parameter.numel()
        self.counts = parameter.new_zeros(len(EDGES), dtype=torch.int64)

    def rows(self, rows: Tensor, factors: Tensor) -> None:
        self.counts += count_rows(rows, factors)

    def outer(self, inputs: Tensor, deltas: Tensor) -> None:
        self.counts += count_outer(inputs, deltas)

    def lookups(self, rows: Tensor, factors: Tensor, owners: Tensor) -> None:
        self.rows(rows, factors)
        self.counts[0] -= rows.numel()

    def zeros(self, samples: int) -> None:
        self.counts[0] += samples * self._numel


class _ExponentCollector(Collector[ExponentCounts]):
    def __init__(self, probe: ExponentHistogram, surroundings: Surroundings) -> None:
        table = surroundings.table
        self._counting = Counting(surroundings, probe.subset, lambda index: _ExponentCounter(table[index].tensor))

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        return self._counting.reduction(index, gradients, backward)

    def end_pass(self, backward: BackwardPass) -> None:
        self._counting.end_pass(backward)

    def result(self) -> ExponentCounts:
        totals = self._counting.totals()
        return ExponentCounts(totals.names, totals.counts[:, 1:], totals.counts[:, 0], EDGES, totals.samples)
