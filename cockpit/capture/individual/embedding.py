"""Individual gradients of embedding tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy

import torch
from torch import Tensor

from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.individual.workspace import Workspace
from cockpit.kernels.row_sums import row_sq_norms


class EmbeddingGradients(SampleGradients):
    """Sample ``n`` touches only the rows it looked up; what it sends to one row adds before anything is squared.

    Args:
        indices: Looked-up rows, shape ``[N, T]``.
        deltas: Output gradients, shape ``[N, T, E]``.
        entries: Number of rows of the table.
    """

    def __init__(self, indices: Tensor, deltas: Tensor, entries: int) -> None:
        N, T, E = deltas.shape
        super().__init__(N, torch.Size((entries, E)))
        samples = torch.arange(N, device=indices.device).repeat_interleave(T)
        self._touch(samples, indices.flatten(), deltas.reshape(N * T, E))

    @classmethod
    def one_by_one(
        cls, samples: int, owners: Tensor, indices: Tensor, deltas: Tensor, entries: int
    ) -> EmbeddingGradients:
        """Of samples that look up different numbers of rows.

        Args:
            samples: Batch size ``N``.
            owners: Whose each look-up is, shape ``[M]``.
            indices: Looked-up rows, shape ``[M]``.
            deltas: Output gradients, shape ``[M, E]``.
            entries: Number of rows of the table.
        """
        whole = cls.__new__(cls)
        SampleGradients.__init__(whole, samples, torch.Size((entries, deltas.shape[1])))
        whole._touch(owners, indices, deltas)
        return whole

    def _touch(self, owners: Tensor, indices: Tensor, deltas: Tensor) -> None:
        entries, E = self.shape
        pairs, place = torch.unique(indices + owners * entries, return_inverse=True)
        self.sample_of, self.index_of = pairs // entries, pairs % entries
        self.touched = deltas.new_zeros(len(pairs), E).index_add_(0, place, deltas)

    @classmethod
    def merged(cls, parts: Sequence[EmbeddingGradients]) -> EmbeddingGradients:
        """Several look-ups in one table."""
        whole = cls.__new__(cls)
        SampleGradients.__init__(whole, parts[0].samples, parts[0].shape)
        entries = parts[0].shape[0]
        pairs = torch.cat([part.sample_of * entries + part.index_of for part in parts])
        touched = torch.cat([part.touched for part in parts])
        unique, place = torch.unique(pairs, return_inverse=True)
        whole.sample_of, whole.index_of = unique // entries, unique % entries
        whole.touched = touched.new_zeros(len(unique), touched.shape[1]).index_add_(0, place, touched)
        return whole

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """Scatters the touched rows into zeros."""
        V, E = self.shape
        step = workspace.chunk(self.samples, V * E * self.touched.element_size())
        for start in range(0, self.samples, step):
            stop = min(start + step, self.samples)
            rows = workspace.take("rows", (stop - start, V, E), self.touched).zero_()
            inside = (self.sample_of >= start) & (self.sample_of < stop)
            rows[self.sample_of[inside] - start, self.index_of[inside]] = self.touched[inside]
            yield start, rows.view(stop - start, V * E)

    def select(self, samples: Sequence[int]) -> EmbeddingGradients:
        """The rows that the samples touched."""
        selected = copy(self)
        SampleGradients.__init__(selected, len(samples), self.shape)
        order = self.sample_of.new_full((self.samples,), -1)
        order[torch.as_tensor(samples, dtype=torch.int64, device=order.device)] = torch.arange(
            len(samples), device=order.device
        )
        mine = order[self.sample_of] >= 0
        selected.sample_of, selected.index_of = order[self.sample_of[mine]], self.index_of[mine]
        selected.touched = self.touched[mine]
        return selected

    def nbytes(self) -> int:
        """Bytes of the touched rows and their indices."""
        return self.touched.numel() * self.touched.element_size() + 16 * len(self.sample_of)

    def per_sample(self, values: Tensor) -> Tensor:
        """Sums values of touched rows by sample.

        Args:
            values: One for each touched row.
        """
        return values.new_zeros(self.samples).index_add_(0, self.sample_of, values)

    def weighted_squares(self, coefficients: Tensor) -> Tensor:
        """Scatter-add of the touched rows' squares."""
        own = coefficients.to(self.touched.dtype)[self.sample_of].unsqueeze(1)
        table = self.touched.new_zeros(*self.shape)
        return table.index_add_(0, self.index_of, self.touched.square() * own).reshape(-1)

    def sq_norms(self) -> Tensor:
        """Squares of the touched rows, by sample."""
        return self.per_sample(row_sq_norms(self.touched))

    def dots(self, direction: Tensor) -> Tensor:
        """Touched rows against the direction's rows, by sample."""
        matched = direction.to(self.touched.dtype)[self.index_of]
        return self.per_sample(torch.linalg.vecdot(self.touched, matched))
