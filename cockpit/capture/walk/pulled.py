"""Individual gradients pulled back, sample by sample, through a part of the graph that knows no samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cockpit.capture.batch_axis import BatchAxis
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.individual.workspace import Workspace
from cockpit.capture.walk.pullback import Pullback


class Pulled(SampleGradients):
    """``G_n(p) = Jᵀ G_n(W)`` where ``W`` was computed from ``p`` alone, as weight normalisation does.

    Args:
        inner: Individual gradients of ``W``.
        pullback: From ``W`` to the parameter.
        shape: Shape of ``W``.
        parameter: The parameter's.
    """

    def __init__(self, inner: SampleGradients, pullback: Pullback, shape: torch.Size, parameter: torch.Size) -> None:
        super().__init__(inner.samples, parameter)
        self._inner, self._pullback, self._entry = inner, pullback, shape

    @property
    def materialises(self) -> bool:
        """Always."""
        return True

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """Pulls back a chunk of rows at a time."""
        for start, rows in self._inner.rows(workspace.room("pulled back", 4)):
            gradients = self._pullback([rows.view(len(rows), *self._entry)])
            target = self._target(workspace, start, start + len(rows), rows)
            target.copy_(gradients.reshape(len(rows), self.numel))
            yield start, target

    def nbytes(self) -> int:
        """Bytes of what lies underneath."""
        return self._inner.nbytes()

    def dots(self, direction: Tensor) -> Tensor | None:
        """``⟨JᵀG_n, V⟩ = ⟨G_n, JV⟩``."""
        if (kept := self._kept_dots(direction)) is not None:
            return kept
        (image,) = self._pullback.image(direction)
        return self._inner.dots(image.view(self._inner.shape))


class Masked(SampleGradients):
    """``G_n`` from the output gradient with all samples but one blanked out: exact for any operation, ``N`` times its
    cost.

    Args:
        pullback: From the outputs of the operation to the parameter.
        deltas: Output gradients.
        axes: The batch axis of each.
        samples: Batch size ``N``.
        parameter: The parameter's shape.
    """

    def __init__(
        self,
        pullback: Pullback,
        deltas: Sequence[Tensor],
        axes: Sequence[BatchAxis],
        samples: int,
        parameter: torch.Size,
    ) -> None:
        super().__init__(samples, parameter)
        self._pullback, self._deltas, self._axes = pullback, deltas, axes

    @property
    def materialises(self) -> bool:
        """Always."""
        return True

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """A chunk of samples at a time."""
        size = sum(delta.numel() for delta in self._deltas) + self.numel
        step = workspace.chunk(self.samples, 4 * size * self._deltas[0].element_size())
        for start in range(0, self.samples, step):
            stop = min(start + step, self.samples)
            gradients = self._pullback(
                [self._alone(delta, axis, start, stop) for delta, axis in zip(self._deltas, self._axes, strict=True)]
            )
            target = self._target(workspace, start, stop, self._deltas[0])
            target.copy_(gradients.reshape(stop - start, self.numel))
            yield start, target

    def _alone(self, delta: Tensor, axis: BatchAxis, start: int, stop: int) -> Tensor:
        """Each sample's entries where they were, and zero elsewhere; shape ``[n, *delta]``."""
        entries = axis.samples_first(torch.arange(delta.numel(), device=delta.device).view(delta.shape), self.samples)
        entries = entries.reshape(self.samples, -1)[start:stop]
        alone = delta.new_zeros(stop - start, delta.numel())
        alone.scatter_(1, entries, delta.reshape(-1)[entries])
        return alone.view(stop - start, *delta.shape)

    def nbytes(self) -> int:
        """Bytes of the output gradients."""
        return sum(delta.numel() * delta.element_size() for delta in self._deltas)

    def dots(self, direction: Tensor) -> Tensor | None:
        """``⟨Jᵀδ_n, V⟩ = ⟨δ_n, JV⟩``: one product for all samples."""
        if (kept := self._kept_dots(direction)) is not None:
            return kept
        images = self._pullback.image(direction)
        return torch.stack(
            [
                axis.samples_first(delta * image.to(delta.dtype), self.samples).reshape(self.samples, -1).sum(1)
                for delta, axis, image in zip(self._deltas, self._axes, images, strict=True)
            ]
        ).sum(0)
