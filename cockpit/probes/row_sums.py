"""Sums over one parameter's materialised individual gradients, asked for by several and formed in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cockpit.kernels.row_sums import Squares, row_sums


@dataclass(eq=False)
class RowSums:
    """What a reduction wants to know of the rows ``G_n``, and what came of it.

    Args:
        directions: Vectors ``V`` of as many elements as a row.
        coefficients: ``c``, for the sum of squares by column; ``None`` if nobody wants it. Shape ``[N]``.

    Attributes:
        squares: ``Σ_n c_n G_nj²`` of the rows so far. Shape ``[numel]``.
    """

    directions: Sequence[Tensor] = ()
    coefficients: Tensor | None = None
    squares: Tensor | None = field(default=None, init=False)
    _sq_norms: list[Tensor] = field(default_factory=list, init=False)
    _dots: list[list[Tensor]] = field(default_factory=list, init=False)

    @property
    def sq_norms(self) -> Tensor:
        """``‖G_n‖²``, float64, shape ``[N]``."""
        return torch.cat(self._sq_norms)

    @property
    def dots(self) -> list[Tensor]:
        """``⟨G_n, V⟩`` for every direction, float64, shape ``[N]``."""
        return [torch.cat(pieces) for pieces in zip(*self._dots, strict=True)]

    def columns(self, start: int, rows: Tensor) -> list[Squares]:
        """The sum by column that a chunk beginning with sample ``start`` is added to, if there is one."""
        if self.coefficients is None:
            return []
        if self.squares is None:
            self.squares = rows.new_zeros(rows.shape[1])
        return [Squares(self.coefficients[start : start + len(rows)], self.squares)]

    def take(self, sq_norms: Tensor, dots: list[Tensor]) -> None:
        """Takes a chunk's norms and inner products."""
        self._sq_norms.append(sq_norms)
        self._dots.append(dots)


def add_chunk(wanted: Iterable[RowSums], start: int, rows: Tensor) -> None:
    """Goes through a chunk of rows once for all who want sums.

    Args:
        wanted: What they want.
        start: The first row's sample.
        rows: Shape ``[n, numel]``, contiguous.
    """
    wanted = list(wanted)
    distinct = {id(v): v for sums in wanted for v in sums.directions}
    columns = [column for sums in wanted for column in sums.columns(start, rows)]
    sq_norms, dots = row_sums(rows, [v.reshape(-1).to(rows.dtype) for v in distinct.values()], columns)
    along = dict(zip(distinct, dots, strict=True))
    for sums in wanted:
        sums.take(sq_norms, [along[id(v)] for v in sums.directions])
