r"""Tail index of noise: how much heavier than a Gaussian's are its tails?

Sums of ``k`` independent values with an α-stable distribution are distributed as ``k^{1/α}`` times one of them, so that

.. math::
    \frac{1}{\alpha} = \frac{\mathrm{E} \log |Y| - \mathrm{E} \log |X|}{\log k},
    \qquad Y = \text{sum of } k \text{ of the } X .

Mohammadi et al., *On estimating the tail index and the spectral measure of multivariate α-stable distributions* (2015);
of gradients, Şimşekli et al., *A tail-index analysis of stochastic gradient noise in deep neural networks* (2019).

Sums are formed within one coordinate, and each is compared with the very values that it is made of: how large the
coordinate is drops out, sum by sum, without any estimate of it. Exact zeros, where a unit was not active or a
coordinate never moves, say nothing about a tail, and are left out before sums are formed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_CANCELS = 0.01
"""A sum that is so much smaller than the largest of its values: 1 in 200 among Gaussians."""

_LATTICE = 0.1
"""Share of such sums from which on the values are multiples of one number, as in sign updates: these have no tail."""


@dataclass(frozen=True)
class TailSums:
    """Sums over blocks of ``k`` values, by coordinate.

    Args:
        k: How many values a block has.
        growth: Sum over the blocks of ``log|Y| − mean log|X|``. Shape ``[D]``.
        blocks: How many there are. Shape ``[D]``.
        cancelling: How many of their sums cancel. Shape ``[D]``.
    """

    k: int
    growth: Tensor
    blocks: Tensor
    cancelling: Tensor

    def index(self, coordinates: slice = slice(None)) -> float | None:
        """``α``; ``None`` where there is no block, or nothing grows.

        Args:
            coordinates: Over which.
        """
        blocks = float(self.blocks[coordinates].sum())
        growth = float(self.growth[coordinates].sum())
        if blocks == 0 or growth <= 0:
            return None
        return math.log(self.k) * blocks / growth

    def lattice(self) -> bool:
        """Whether so many sums cancel that the values can only be multiples of one number."""
        return float(self.cancelling.sum()) > _LATTICE * float(self.blocks.sum())


def tail_sums(noise: Tensor) -> TailSums:
    """Forms sums of ``k`` values, the even number below the root of how many there are, and at least 2.

    Args:
        noise: Symmetrically distributed around zero; rows independent of each other. Shape ``[n, D]``.

    Raises:
        ValueError: For fewer than two rows.
    """
    n = len(noise)
    if n < 2:
        raise ValueError(f"sums need at least 2 values of each coordinate, got {n}")
    k = max(2, math.isqrt(n) // 2 * 2)  # even, so that signs cancel
    x = noise.double()
    blocks = (x != 0).sum(0) // k
    sums, logs, largest = _whole_blocks(x, k) if bool((x != 0).all()) else _blocks_between_zeros(x, k, blocks)
    full = torch.arange(n // k).unsqueeze(1) < blocks
    cancels = full & (sums.abs() < _CANCELS * largest)
    counted = full & (sums != 0)
    growth = torch.where(counted, sums.abs().log() - logs / k, 0.0)
    return TailSums(k, growth.sum(0), counted.sum(0), cancels.sum(0))


def _whole_blocks(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sum, sum of logarithms, and largest size of the values of each block; shape ``[n // k, D]`` each."""
    blocks = len(x) // k
    values = x[: blocks * k].view(blocks, k, -1)
    sizes = values.abs()
    return values.sum(1), sizes.log().sum(1), sizes.amax(1)


def _blocks_between_zeros(x: Tensor, k: int, blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same of blocks that zeros are left out of; what is left of a coordinate after its last block is, too."""
    n, D = x.shape
    there = x != 0
    block = (there.cumsum(0) - 1) // k
    whole = there & (block < blocks)
    place, values = (block * D + torch.arange(D))[whole], x[whole]
    sums, logs, largest = (x.new_zeros(n // k * D) for _ in range(3))
    sums.index_add_(0, place, values)
    logs.index_add_(0, place, values.abs().log())
    largest.scatter_reduce_(0, place, values.abs(), "amax")
    return sums.view(-1, D), logs.view(-1, D), largest.view(-1, D)


def symmetrised(samples: Tensor) -> Tensor:
    """Differences of samples that follow each other: symmetric around zero whatever the mean, with the same tail index.

    Args:
        samples: Independent of each other. Shape ``[N, D]``.

    Returns:
        Shape ``[N // 2, D]``.
    """
    pairs = len(samples) // 2
    return samples[: 2 * pairs : 2] - samples[1 : 2 * pairs : 2]


def gaussian_twin(noise: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise with the same covariance: sums of the rows with normal weights.

    What an estimator makes of it is what it makes of Gaussian noise whose coordinates are as unequal, and depend on
    each other as much.

    Args:
        noise: Shape ``[n, D]``.
        generator: Draws the weights.
    """
    n = len(noise)
    weights = torch.randn(n, n, generator=generator, dtype=torch.float64)
    return weights @ noise.double() / math.sqrt(n)
