"""The Hessian's largest and smallest eigenvalue, from a handful of products that begin where the last step's ended."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cockpit.capture.second_order.hessian import Hessian
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.capture.unavailable import Unavailable
from cockpit.probes.lanczos import Extremes, lanczos
from cockpit.probes.probe import Collector, Probe, Surroundings

GRADIENT_SHARE, RANDOM_SHARE = 0.3, 0.05
"""What is added to the last eigenvectors, so that directions can appear that were not among them."""

RANDOM_PERIOD = 65_537
"""Random numbers are repeated after so many: a million of them cost as much as a training step of a small network. It
is prime, so that no layer's shape fits it."""

_PARTS = (
    "the batch came in several backward passes, and each takes its part of the loss along before the next is known; "
    "eigenvalues need the whole"
)


@dataclass(frozen=True)
class Eigenvalues:
    """Both ends of the Hessian's spectrum, for the unscaled mean loss of the mini-batch.

    Args:
        largest: The largest eigenvalue, algebraically.
        residual: ``‖Hv − λv‖`` of the largest: so near to it there is an eigenvalue.
        smallest: The smallest.
        smallest_residual: The same of the smallest.
        products: How many Hessian products it took.
    """

    largest: float
    residual: float
    smallest: float
    smallest_residual: float
    products: int


@dataclass
class _Memory:
    """What is kept from one step for the next.

    Args:
        start: Sum of the last eigenvectors, shape ``[D]``.
        in_parts: Whether the batch came in several backward passes: then the first is not worth the products.
    """

    start: Tensor | None = None
    in_parts: bool = False


@dataclass(frozen=True)
class ExtremeEigenvalues(Probe[Eigenvalues]):
    """Lanczos' method, begun with the last step's eigenvectors, the gradient, and a little of everything.

    Holds ``max_products + 2`` vectors of the model's size between steps.

    Args:
        tol: Relative residual of the largest eigenvalue to stop at.
        max_products: Bound on the number of Hessian products in a step.

    Raises:
        ValueError: For a tolerance that is not positive, or less than one product.
    """

    second_order: ClassVar[bool] = True

    tol: float = 0.1
    max_products: int = 5

    def __post_init__(self) -> None:
        if not self.tol > 0:
            raise ValueError(f"tol is the relative residual to stop at and must be positive, got {self.tol}")
        if self.max_products < 1:
            raise ValueError(f"max_products must be at least 1, got {self.max_products}")

    def collector(self, surroundings: Surroundings) -> Collector[Eigenvalues]:
        """Begins a step."""
        return _EigenvaluesCollector(self, surroundings, surroundings.memory.setdefault(self, _Memory()))


class _EigenvaluesCollector(Collector[Eigenvalues]):
    def __init__(self, probe: ExtremeEigenvalues, surroundings: Surroundings, memory: _Memory) -> None:
        self._probe, self._surroundings, self._memory = probe, surroundings, memory
        self._passes = 0
        self._found: Extremes | None = None

    def before_backward(self, graph: LossGraph) -> None:
        self._passes += 1
        if self._passes > 1:
            self._memory.in_parts, self._memory.start = True, None
            raise Unavailable(_PARTS)
        if self._memory.in_parts:
            return
        hessian = graph.hessian([p.tensor for p in self._surroundings.table])
        self._found = self._extremes(hessian)
        if math.isfinite(self._found.largest.value):
            self._memory.start = self._found.largest.vector + self._found.smallest.vector

    def _extremes(self, hessian: Hessian) -> Extremes:
        dtype = functools.reduce(torch.promote_types, [t.dtype for t in hessian.tensors], torch.float32)
        like = torch.empty(0, dtype=dtype, device=hessian.tensors[0].device)
        shape = (self._probe.max_products + 1, self._surroundings.table.numel)
        basis = self._surroundings.workspace.take("lanczos", shape, like)
        self._begin(basis[0], basis[1], hessian)
        return lanczos(functools.partial(_multiply, hessian), basis, self._probe.tol)

    def _begin(self, start: Tensor, scratch: Tensor, hessian: Hessian) -> None:
        """Writes the starting vector."""
        generator = self._surroundings.generator(self._probe, start.device)
        period = min(len(start), RANDOM_PERIOD)
        pattern = torch.randn(period, generator=generator, dtype=start.dtype, device=start.device)
        pattern.mul_(RANDOM_SHARE / len(start) ** 0.5)
        for piece in start.split(period):
            piece.copy_(pattern[: len(piece)])
        for tensor, piece in zip(hessian.gradient, _pieces(scratch, hessian), strict=True):
            piece.copy_(tensor)
        start.add_(_unit(scratch), alpha=GRADIENT_SHARE)
        if self._memory.start is not None:
            start.add_(_unit(self._memory.start.to(start)))

    def result(self) -> Eigenvalues:
        if self._passes == 0:
            raise Unavailable("no call of backward was seen")
        if self._found is None:
            self._memory.in_parts = False
            raise Unavailable("the batch of the step before came in several backward passes, this one did not")
        largest, smallest = self._found.largest, self._found.smallest
        return Eigenvalues(
            largest.value, largest.residual, smallest.value, smallest.residual, products=self._found.products
        )


def _multiply(hessian: Hessian, vector: Tensor, out: Tensor) -> None:
    pairs = zip(hessian.times(_pieces(vector, hessian)), _pieces(out, hessian), strict=True)
    for product, piece in pairs:
        piece.copy_(product)


def _pieces(flat: Tensor, hessian: Hessian) -> list[Tensor]:
    """Views of a flat vector, one for each parameter."""
    pieces = flat.split([t.numel() for t in hessian.tensors])
    return [piece.view(t.shape) for piece, t in zip(pieces, hessian.tensors, strict=True)]


def _unit(vector: Tensor) -> Tensor:
    """Of length one; zero stays zero."""
    unit: Tensor = vector / torch.linalg.vector_norm(vector).clamp_min(torch.finfo(vector.dtype).tiny)
    return unit
