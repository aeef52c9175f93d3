"""Individual gradients of linear maps: sums of outer products of output gradients and inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cockpit.capture.individual.gradients import SampleGradients, picked
from cockpit.capture.individual.workspace import DEFAULT_LIMIT, Workspace
from cockpit.kernels.row_sums import row_sq_norms


class OuterProducts(SampleGradients):
    """``G_n = Σ_t δ_nt a_ntᵀ`` of a linear map.

    Goodfellow, *Efficient per-example gradient computations* (2015), for a single position.

    Args:
        inputs: ``a``, shape ``[N, T, I]``.
        deltas: ``δ``, shape ``[N, T, O]``.
    """

    def __init__(self, inputs: Tensor, deltas: Tensor) -> None:
        N, T, O = deltas.shape
        super().__init__(N, torch.Size((O, inputs.shape[2])))
        self.inputs, self.deltas, self.positions = inputs, deltas, T

    @property
    def materialises(self) -> bool:
        """Many positions make the sum over pairs of them dearer than the rows."""
        O, I = self.shape
        return self.positions > 1 and self.positions * (O + I) >= O * I

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """Batched products, a chunk of samples at a time."""
        O, I = self.shape
        step = workspace.chunk(self.samples, O * I * self.deltas.element_size())
        for start in range(0, self.samples, step):
            stop = min(start + step, self.samples)
            rows = self._target(workspace, start, stop, self.deltas)
            torch.bmm(self.deltas[start:stop].transpose(1, 2), self.inputs[start:stop], out=rows.view(-1, O, I))
            yield start, rows

    def transposed(self) -> OuterProducts:
        """Of the parameter that the layer uses transposed."""
        return OuterProducts(self.deltas, self.inputs)

    def _drop_sources(self) -> None:
        self.inputs = self.deltas = self.deltas.new_empty(0)

    def select(self, samples: Sequence[int]) -> OuterProducts:
        """Inputs and output gradients of the samples."""
        return OuterProducts(picked(self.inputs, samples), picked(self.deltas, samples))

    def total(self) -> Tensor:
        """One product, as in the layer's own backward pass."""
        return (self.deltas.flatten(0, 1).T @ self.inputs.flatten(0, 1)).reshape(-1)

    def elements(self, places: Tensor) -> Tensor | None:
        """Products of single numbers for one position."""
        if self.positions > 1:
            return None
        output, feature = places // self.shape[1], places % self.shape[1]
        return self.deltas[:, 0, output] * self.inputs[:, 0, feature]

    def nbytes(self) -> int:
        """Bytes of inputs and output gradients."""
        return (self.inputs.numel() + self.deltas.numel()) * self.deltas.element_size()

    def summed(self) -> Tensor:
        """At most ``Σ_n ‖δ_n‖ ‖a_n‖``."""
        deltas, inputs = (torch.linalg.vector_norm(t.flatten(1), dim=1).double() for t in (self.deltas, self.inputs))
        summed: Tensor = deltas @ inputs
        return summed

    def weighted_squares(self, coefficients: Tensor) -> Tensor | None:
        """``(c δ²)ᵀ a²`` for one position."""
        if self.positions > 1:
            return None
        deltas = self.deltas[:, 0].square() * coefficients.to(self.deltas.dtype).unsqueeze(1)
        return (deltas.T @ self.inputs[:, 0].square()).reshape(-1)

    def sq_norms(self) -> Tensor | None:
        """``‖δ_n‖²‖a_n‖²`` for one position; for few positions the sum over pairs; ``None`` where rows are cheaper."""
        if self.positions == 1:
            return row_sq_norms(self.deltas[:, 0]) * row_sq_norms(self.inputs[:, 0])
        if self.materialises:
            return None
        pairs = 2 * self.positions**2 * self.deltas.element_size()
        step = max(1, DEFAULT_LIMIT // pairs)
        return torch.cat([self._grams(n, n + step) for n in range(0, self.samples, step)])

    def _grams(self, start: int, stop: int) -> Tensor:
        inputs, deltas = self.inputs[start:stop], self.deltas[start:stop]
        gram = torch.bmm(inputs, inputs.transpose(1, 2))
        gram *= torch.bmm(deltas, deltas.transpose(1, 2))
        # Equal to a squared norm, so negative only by rounding.
        return gram.sum((1, 2)).double().clamp_min(0)

    def dots(self, direction: Tensor) -> Tensor:
        """``Σ_t δ_nt · V a_nt``: one product of the size of the layer's own forward pass."""
        if (kept := self._kept_dots(direction)) is not None:
            return kept
        images = self.inputs @ direction.to(self.inputs.dtype).T
        dots: Tensor = torch.linalg.vecdot(images, self.deltas).sum(1)
        return dots
