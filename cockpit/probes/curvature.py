"""What every way to the diagonal of a curvature matrix ends in, so that instruments need not know which it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Method: TypeAlias = Literal["hessian", "ggn", "ggn_mc", "hutchinson"]
"""What can be asked for."""

Way: TypeAlias = Literal["products", "piecewise linear", "ggn", "ggn_mc", "hutchinson", "backpack"]
"""What it can be had from; the first two and the last are ways to the exact Hessian."""


@dataclass(frozen=True)
class Curvature:
    """Traces of the diagonal blocks of a curvature matrix of the unscaled mean loss.

    Args:
        names: Parameters, in the model's order.
        draws: Trace of each parameter's block: one row for each independent unbiased estimate, or a single row where
            they are exact. Float64, shape ``[K, P]``.
        way: How they came about.
        exact: Whether they hold no sampling noise.
        diagonal: Mean over the draws for each coordinate, one tensor per parameter, of its shape and on its device;
            empty where nobody asked, and once the step is over.
        note: What the user should know about the way that was taken; empty if it is the one that was asked for.
        bounds: For a single draw that consists of independent ones, a sample's each: what their spread says of its
            standard error at most, since samples differ by more than chance. By parameter and, last, of the total; NaN
            where it is not known. Float64, shape ``[P + 1]``.

    Example:
        >>> found = Curvature(("a", "b"), torch.tensor([[1.0, 4.0], [3.0, 4.0]]), "hutchinson", exact=False)
        >>> found.total(), found.total_error(), found.by_layer(), found.errors_by_layer()
        (6.0, 1.0, {'a': 2.0, 'b': 4.0}, {'a': 1.0, 'b': 0.0})
    """

    names: tuple[str, ...]
    draws: Tensor
    way: Way
    exact: bool
    diagonal: tuple[Tensor, ...] = ()
    note: str = ""
    bounds: Tensor | None = None

    def total(self) -> float:
        """The trace of the whole matrix."""
        return float(self.draws.sum(1).mean())

    def total_error(self) -> float | None:
        """Standard error of the total, 0 where it is exact; its bound for a single draw, ``None`` if that is not known.

        Blocks share their draws, so their errors do not add up to this one.
        """
        (error,) = self._errors(self.draws.sum(1, keepdim=True), None if self.bounds is None else self.bounds[-1:])
        return error

    def by_layer(self) -> dict[str, float]:
        """The trace of each parameter's block."""
        return dict(zip(self.names, self.draws.mean(0).tolist(), strict=True))

    def errors_by_layer(self) -> dict[str, float | None]:
        """Standard error of each block's trace; as :meth:`total_error`."""
        bounds = None if self.bounds is None else self.bounds[:-1]
        return dict(zip(self.names, self._errors(self.draws, bounds), strict=True))

    def on_host(self) -> Curvature:
        """What outlives the step: numbers on the host, and no diagonal."""
        bounds = None if self.bounds is None else self.bounds.cpu()
        return dataclasses.replace(self, draws=self.draws.cpu(), diagonal=(), bounds=bounds)

    def _errors(self, draws: Tensor, bounds: Tensor | None) -> Sequence[float | None]:
        K, columns = draws.shape
        if self.exact:
            return [0.0] * columns
        if K > 1:
            return list((draws.std(0, correction=1) / K**0.5).tolist())
        if bounds is None:
            return [None] * columns
        return [None if bound != bound else bound for bound in bounds.tolist()]


def pooled(parts: Sequence[Curvature], shares: Sequence[float]) -> Curvature:
    """The curvature of a batch that came in parts: the mean loss, and with it its curvature, is a weighted mean.

    Args:
        parts: One for each backward pass, from the same vectors where these are random.
        shares: Each part's weight in the mean.
    """
    draws = _weighted([part.draws for part in parts], shares)
    by_parameter = zip(*(part.diagonal for part in parts), strict=True)
    diagonal = tuple(_weighted(d, shares) for d in by_parameter)
    squares = [part.bounds.square() for part in parts if part.bounds is not None]
    bounds = None
    if len(squares) == len(parts):  # samples of several parts are drawn independently
        bounds = _weighted(squares, [share**2 for share in shares]).sqrt()
    return dataclasses.replace(parts[0], draws=draws, diagonal=diagonal, bounds=bounds)


def _weighted(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    first, *rest = (share * tensor for share, tensor in zip(shares, tensors, strict=True))
    return sum(rest, first)


def block_sums(diagonal: Sequence[Tensor]) -> Tensor:
    """The trace of each parameter's block.

    Args:
        diagonal: Coordinates' values, one tensor per parameter.

    Returns:
        Float64, on the device. Shape ``[P]``.
    """
    return torch.stack([values.sum(dtype=torch.float64) for values in diagonal])
