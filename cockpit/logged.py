"""What was logged under one key of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cockpit.layers import Layers
from cockpit.store import Reader
from cockpit.store.arrays import Array


@dataclass(frozen=True)
class Arrays:
    """Arrays of one key, read a step at a time: all of them at once may be more than memory holds.

    Args:
        key: Log key.
        steps: When there are some. Shape ``[n]``.
        times: Seconds since the run began. Shape ``[n]``.
    """

    key: str
    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    _reader: Reader = field(repr=False)

    def at(self, step: int) -> dict[str, Array]:
        """Those of the last point at or before ``step``, by name, as they were to the last bit.

        Raises:
            KeyError: If there are none that early.
        """
        found = self._reader.arrays(self.key, step)
        if not found:
            raise KeyError(f"the first arrays of {self.key!r} are those of step {self.steps[0]}, after step {step}")
        return found


@dataclass(frozen=True)
class Quantity:
    """What was logged under one key.

    Args:
        key: Log key.
        steps: Shape ``[n]``.
        times: Seconds since the run began. Shape ``[n]``.
        values: Network-wise: float64 ``[n]``, or counts of histograms: ``[n, bins]``, of pairs ``[n, x bins, y bins]``.
            A quantity that exists only layer-wise has none: shape ``[0]``, see ``layers``.
        missing: Where the value is undefined; ``values`` holds NaN or zero counts there. Shape ``[n]``.
        layers: The same layer by layer; ``None`` where it is not defined so.
        edges: Bin boundaries of histograms, of pairs those of the first axis; see :class:`cockpit.store.Column`.
        y_edges: Bin boundaries of the second axis of pairs.
        arrays: Arrays logged under the key, beside its values; ``None`` where there are none.
    """

    key: str
    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64] | NDArray[np.int64]
    missing: NDArray[np.bool_]
    layers: Layers | None = None
    edges: NDArray[np.float64] | None = None
    y_edges: NDArray[np.float64] | None = None
    arrays: Arrays | None = None

    def at(self, step: int) -> dict[str, Array]:
        """The key's arrays at their last point at or before ``step``, by name, as they were to the last bit.

        Raises:
            KeyError: If the key holds no arrays, or none that early.
        """
        if self.arrays is None:
            raise KeyError(
                f"no arrays are logged as {self.key!r}: its values are in .values and .layers. Parameters(values=True) "
                "logs those of the parameters"
            )
        return self.arrays.at(step)
