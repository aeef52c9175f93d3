"""Sums of squares of vectors that were pulled back to the parameters, and what the samples' spread says of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.individual.workspace import Workspace
from cockpit.parameters import Parameter, ParameterTable
from cockpit.probes.probe import Reduction, reduce
from cockpit.probes.row_sums import RowSums


class SquareSums:
    """Squares by parameter, added up over losses and columns; the diagonal over draws as well.

    Args:
        table: The watched parameters.
        workspace: Scratch memory.
        diagonal: Whether coordinates are kept apart, besides.

    Attributes:
        diagonal: Sums for each coordinate, one tensor per parameter; empty where nobody asked.
    """

    def __init__(self, table: ParameterTable, workspace: Workspace, diagonal: bool) -> None:
        self.table, self._workspace, self._elementwise = table, workspace, diagonal
        self._traces = [p.tensor.new_zeros((), dtype=torch.float64) for p in table]
        self._by_sample: dict[int, Tensor | None] = {}  # traces of a parameter, each sample's share of them
        self.diagonal: list[Tensor] = []
        if diagonal:
            self.diagonal = [p.tensor.detach().new_zeros(p.tensor.shape, dtype=_summing(p)) for p in table]

    def add_samples(self, index: int, gradients: SampleGradients, boost: float) -> None:
        """Takes the squares of every sample's vector.

        Args:
            index: Of the parameter.
            gradients: What the vectors have become there.
            boost: What they were multiplied with.
        """
        squares = _Squares(gradients, self._elementwise)
        reduce(gradients, [squares], self._workspace)
        values = None if squares.values is None else squares.values / boost**2
        shares = squares.by_sample()
        self._add(index, shares.sum() / boost**2, values, shares / boost**2)

    def add_products(self, index: int, left: Tensor, right: Tensor) -> None:
        """Takes the products of two pulled-back vectors."""
        dtype = _summing(self.table[index])
        values = left.to(dtype) * right.to(dtype)
        self._add(index, values.sum(dtype=torch.float64), values if self._elementwise else None)

    def next_draw(self) -> Tensor:
        """The traces of a draw, shape ``[P]``; from here on those of the next are added up."""
        traces = torch.stack([trace.to(self._traces[0].device) for trace in self._traces])
        self._traces = [torch.zeros_like(trace) for trace in self._traces]
        return traces

    def spread(self) -> Tensor:
        """What the spread of the samples' shares says of the standard errors, shape ``[P + 1]``; NaN if unknown."""
        known = {i: shares for i, shares in self._by_sample.items() if shares is not None}
        errors = self._traces[0].new_full((len(self.table) + 1,), math.nan)
        for i, shares in known.items():
            errors[i] = _error_of_sum(shares)
        if known and len(known) == len(self._by_sample):
            errors[-1] = _error_of_sum(torch.stack([*known.values()]).sum(0))
        return errors

    def _add(self, index: int, trace: Tensor, values: Tensor | None, by_sample: Tensor | None = None) -> None:
        """Takes a parameter's squares, and their trace sample by sample where that is known."""
        self._traces[index] += trace
        before = self._by_sample.get(index)
        first = index not in self._by_sample
        added = by_sample if first or before is None or by_sample is None else before + by_sample
        self._by_sample[index] = added if first or before is not None else None
        if values is not None:
            self.diagonal[index] += values.view_as(self.diagonal[index])


def _summing(parameter: Parameter) -> torch.dtype:
    return torch.promote_types(parameter.tensor.dtype, torch.float32)


class _Squares(Reduction):
    """``Σ_n ‖J_nᵀ v_n‖²`` of one parameter, or its terms for every coordinate.

    Args:
        gradients: What the vectors have become at the parameter.
        elementwise: Whether coordinates are kept apart.
    """

    def __init__(self, gradients: SampleGradients, elementwise: bool) -> None:
        self._gradients: SampleGradients | None = gradients
        self._elementwise = elementwise
        self.values: Tensor | None = None
        self._by_sample: Tensor | None = None

    def closed(self) -> bool:
        assert self._gradients is not None
        sq_norms = self._gradients.sq_norms()
        if self._elementwise and sq_norms is not None:
            self.values = self._gradients.weighted_squares(torch.ones(self._gradients.samples))
        if sq_norms is None or (self._elementwise and self.values is None):
            self.sums = RowSums(coefficients=torch.ones(self._gradients.samples) if self._elementwise else None)
            return False
        self._by_sample = sq_norms
        return True

    def finish(self) -> None:
        if self.sums is not None:
            self._by_sample, self.values = self.sums.sq_norms, self.sums.squares
        self._gradients = self.sums = None

    def by_sample(self) -> Tensor:
        """``‖J_nᵀ v_n‖²``, float64, shape ``[N]``."""
        assert self._by_sample is not None
        return self._by_sample


def _error_of_sum(shares: Tensor) -> Tensor:
    """Standard error of a sum of independent terms of unknown means: at most this, in expectation."""
    return (shares.var(correction=1) * len(shares)).sqrt() if len(shares) > 1 else shares.new_tensor(math.nan)
