"""Ranges of histograms that are found rather than given: powers of two, so that they seldom change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cockpit.kernels.histogram import tally

HELD = 0.999
"""Share of the values that a range should hold."""
CLIPPED = 0.01
"""Share of the values beyond the range that shows it to be too narrow."""
SETTLING = 8
"""Readings after which a range is left alone, unless it is far too wide or too narrow."""
_SMALLEST, _LARGEST = -60, 60  # exponents


def reach(tensors: Sequence[Tensor]) -> float:
    """The smallest power of two beyond which lies at most a thousandth of the values that are not zero; 1 for none.

    Args:
        tensors: At least one.
    """
    size = _LARGEST - _SMALLEST + 1
    total = torch.zeros(size, dtype=torch.int64)
    for tensor in tensors:
        _, exponents = torch.frexp(tensor.detach().float())
        exponents = exponents[(tensor != 0) & tensor.isfinite()].clamp(_SMALLEST, _LARGEST)
        total = total.to(tensor.device) + tally(exponents - _SMALLEST, size)
    counts = total.cpu().numpy()
    if not counts.any():
        return 1.0
    held = np.cumsum(counts) >= HELD * counts.sum()
    return float(2.0 ** (_SMALLEST + int(np.argmax(held))))


class AdaptiveRange:
    """From ``-high`` to ``high``, moved where the histogram itself shows that it should be.

    In the first readings it comes as close as one power of two to what holds 99.9 % of the values. Later it is widened
    where more than 1 % of them lie outside, and narrowed where a sixteenth of it would do.

    Args:
        high: Where to begin.
        settled: Whether it is left alone from the beginning.
    """

    def __init__(self, high: float, settled: bool = False) -> None:
        self.high = high
        self._readings = SETTLING if settled else 0

    def observe(self, counts: NDArray[np.int64]) -> None:
        """Looks at a reading.

        Args:
            counts: In equal bins from ``-high`` to ``high``. Shape ``[bins]``.
        """
        total = int(counts.sum())
        if total == 0:
            return
        self._readings += 1
        if _clipped(counts) > CLIPPED * total:
            self.high = min(4 * self.high, 2.0**_LARGEST)
            return
        wanted = 2 * self.high * _needed(counts)
        if wanted <= self.high / (2 if self._readings <= SETTLING else 16):
            self.high = max(wanted, 2.0**_SMALLEST)


def _clipped(counts: NDArray[np.int64]) -> int:
    """About how many values lie outside: what the end bins, which count them, hold more than the bins beside them."""
    if len(counts) < 4:
        return int(counts[0] + counts[-1])
    return max(0, int(counts[0] - counts[1])) + max(0, int(counts[-1] - counts[-2]))


def _needed(counts: NDArray[np.int64]) -> float:
    """The part of the range, a power of two, that holds the values as far as the bins tell."""
    edges = np.abs(np.linspace(-1, 1, len(counts) + 1))
    ends = np.maximum(edges[:-1], edges[1:])
    part = 1.0
    while counts[ends <= part / 2].sum() >= HELD * counts.sum():
        part /= 2
    return part
