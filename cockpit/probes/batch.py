"""What the model is called with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from cockpit.parameters import sq_norms
from cockpit.probes.probe import Collector, Probe, Surroundings


@dataclass(frozen=True)
class BatchNumbers:
    """Statistics of all elements of a batch; NaN where an element is.

    Args:
        mean: Their mean.
        deviation: Their standard deviation, from the mean of squares: not corrected.
        least: The smallest.
        largest: The largest.
        bits: Of one element.
        dtype: In torch's words, ``float32``.
    """

    mean: float
    deviation: float
    least: float
    largest: float
    bits: int
    dtype: str


@dataclass(frozen=True)
class Batch(Probe[BatchNumbers | None]):
    """The first tensor among the model's arguments, over all of its calls in the step; ``None`` if there is none."""

    inputs: ClassVar[bool] = True

    def collector(self, surroundings: Surroundings) -> Collector[BatchNumbers | None]:
        """Begins a step."""
        return _BatchCollector()


class _BatchCollector(Collector[BatchNumbers | None]):
    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._numbers: list[Tensor] = []
        self._dtype = torch.float32

    def model_called(self, batch: Tensor) -> None:
        if batch.numel() == 0 or batch.is_complex() or batch.layout != torch.strided:
            return
        self._dtype = batch.dtype
        self._sizes.append(batch.numel())
        # At once: whose the batch is may overwrite it. No number leaves the device before the step is over.
        self._numbers.append(batch_numbers(batch))

    def result(self) -> BatchNumbers | None:
        if not self._sizes:
            return None
        sizes = np.array(self._sizes, np.float64)
        means, least, largest, squares = torch.stack(self._numbers).cpu().numpy().T
        shares = sizes / sizes.sum()
        with np.errstate(all="ignore"):  # what is not finite shows in the result
            mean = shares @ means
            variance = squares.sum() / sizes.sum() + shares @ (means - mean) ** 2
            deviation = np.sqrt(variance)
        dtype = str(self._dtype).removeprefix("torch.")
        return BatchNumbers(
            float(mean), float(deviation), float(least.min()), float(largest.max()), 8 * self._dtype.itemsize, dtype
        )


def batch_numbers(batch: Tensor) -> Tensor:
    """Mean, minimum, maximum, and sum of squared deviations from the mean, float64 of shape ``[4]``.

    Args:
        batch: Real numbers of any shape, at least one.
    """
    if not batch.is_floating_point():
        batch = batch.double()
    elif batch.element_size() < 4:
        batch = batch.float()
    mean = batch.mean()
    least, largest = batch.aminmax()
    squares = sq_norms([batch - mean])
    return torch.cat([torch.stack([mean, least, largest]).double(), squares])
