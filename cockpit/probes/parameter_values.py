"""The parameters themselves: histograms, moments, and the values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cockpit.kernels.histogram import Edges, count_rows
from cockpit.parameters import working
from cockpit.probes.batch import batch_numbers
from cockpit.probes.probe import Collector, Probe, Surroundings
from cockpit.store.arrays import Array


@dataclass(frozen=True)
class ParameterCounts:
    """Histograms and moments by parameter.

    Args:
        names: Parameters, in the model's order.
        counts: Shape ``[P, bins]``.
        edges: Bin boundaries. Shape ``[bins + 1]``.
        means: Shape ``[P]``.
        deviations: Standard deviations, from the mean of squares. Shape ``[P]``.
        values: Each parameter's values, in its shape, float32 or float64; none unless they are kept.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]
    values: tuple[Array, ...]


@dataclass(frozen=True)
class ParameterValues(Probe[ParameterCounts]):
    """``θ(t)`` before the step, in equal bins; what lies outside is counted in the end bins.

    Args:
        low: Lower end of the range.
        high: Upper end.
        bins: Number of bins.
        keep: Whether the values are kept, a copy of all parameters.
    """

    low: float = -1.0
    high: float = 1.0
    bins: int = 200
    keep: bool = False

    def collector(self, surroundings: Surroundings) -> Collector[ParameterCounts]:
        """Begins a step."""
        return _ValuesCollector(self, surroundings)


class _ValuesCollector(Collector[ParameterCounts]):
    """Everything is known before anything happens."""

    def __init__(self, probe: ParameterValues, surroundings: Surroundings) -> None:
        edges = Edges.uniform(probe.low, probe.high, probe.bins)
        tensors = [working(tensor) for tensor in surroundings.table.tensors()]
        one = torch.ones(1)
        with torch.no_grad():
            counts = np.stack([count_rows(t.reshape(1, -1), one.to(t), edges) for t in tensors])
            means, _, _, squares = torch.stack([batch_numbers(t) for t in tensors]).cpu().unbind(1)
        sizes = torch.tensor([tensor.numel() for tensor in tensors], dtype=torch.float64)
        names = tuple(p.name for p in surroundings.table)
        kept = tuple(tensor.to("cpu", copy=True).numpy() for tensor in tensors) if probe.keep else ()
        deviations = (squares / sizes).sqrt().numpy()
        self._found = ParameterCounts(names, counts, edges.values, means.numpy(), deviations, kept)

    def result(self) -> ParameterCounts:
        return self._found
