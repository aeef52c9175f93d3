"""What an instrument returns and the log stores: numbers, histograms, and the reason why there is none.

Undefined is ``None``; not-a-number is NaN; the log keeps the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Histogram:
    """Counts between edges; values outside the range are counted in the end bins.

    Args:
        counts: Number of elements in each bin. Shape ``[bins]``.
        edges: Bin boundaries, increasing. Shape ``[bins + 1]``.

    Raises:
        ValueError: If there is not one more edge than bins.
    """

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.edges.ndim != 1 or self.counts.shape != (len(self.edges) - 1,):
            raise ValueError(f"{self.edges.shape} edges do not bound counts of shape {self.counts.shape}")


@dataclass(frozen=True)
class Histogram2d:
    """Counts of pairs ``(x, y)`` between edges; pairs outside the range are counted in the end bins of either axis.

    Args:
        counts: Number of pairs in each bin. Shape ``[x bins, y bins]``.
        x_edges: Bin boundaries of the first number, increasing. Shape ``[x bins + 1]``.
        y_edges: Bin boundaries of the second. Shape ``[y bins + 1]``.

    Raises:
        ValueError: If there is not one more edge than bins on either axis.
    """

    counts: NDArray[np.int64]
    x_edges: NDArray[np.float64]
    y_edges: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = (len(self.x_edges) - 1, len(self.y_edges) - 1)
        if self.x_edges.ndim != 1 or self.y_edges.ndim != 1 or self.counts.shape != shape:
            edges = f"{self.x_edges.shape} and {self.y_edges.shape}"
            raise ValueError(f"{edges} edges do not bound counts of shape {self.counts.shape}")

    @property
    def marginals(self) -> tuple[Histogram, Histogram]:
        """Histograms of the first numbers and of the second."""
        return Histogram(self.counts.sum(1), self.x_edges), Histogram(self.counts.sum(0), self.y_edges)


Scalar: TypeAlias = "float | None"
Value: TypeAlias = "Scalar | Histogram | Histogram2d"


@dataclass(frozen=True)
class Reading:
    """One instrument's result at one step.

    Args:
        value: The network-wise value, logged under the instrument's name.
        layers: The same quantity per parameter or module, by its dotted name; empty where it is not defined layer-wise.
        parts: Further numbers, logged as ``<instrument>.<part>``: a scalar, or one scalar per layer.
        reason: Why ``value`` is missing, in words a user can act on.
        note: Words that belong to the reading and are no number, such as a dtype; logged once as an event.
        arrays: Values of any shape, float32 or float64, by name: parameter values, say. They are logged beside
            ``value`` as they are, to the last bit, and read back a step at a time; no panel draws them. They must not
            be changed afterwards.
    """

    value: Value
    layers: Mapping[str, Value] = field(default_factory=dict)
    parts: Mapping[str, Scalar | Mapping[str, Scalar]] = field(default_factory=dict)
    reason: str | None = None
    note: str | None = None
    arrays: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)
