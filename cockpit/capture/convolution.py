"""Individual gradients of convolution kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cockpit.capture.gradients import SampleGradients, picked
from cockpit.capture.workspace import Workspace

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True)
class Geometry:
    """How a kernel is laid over its input.

    Args:
        shape: Shape of the kernel, ``[O, C / groups, *spatial]``.
        stride: Along each spatial axis.
        dilation: Along each spatial axis.
        groups: Number of groups of channels.
    """

    shape: torch.Size
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @classmethod
    def of(cls, module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Geometry:
        """Of a layer."""
        return cls(module.weight.shape, module.stride, module.dilation, module.groups)


def padded(inputs: Tensor, padding: Sequence[int]) -> Tensor:
    """The input with zeros around it.

    Args:
        inputs: Shape ``[N, C, *spatial]``.
        padding: On both sides of each spatial axis.
    """
    amounts = [amount for each in reversed(padding) for amount in (each, each)]
    return F.pad(inputs, amounts) if any(amounts) else inputs


class ConvolutionGradients(SampleGradients):
    """``G_n = δ_n · unfold(a_n)ᵀ`` per group.

    Rochette et al., *Efficient per-example gradient computations in convolutional neural networks* (2019).

    Args:
        inputs: Layer input with its padding, shape ``[N, C, *spatial]``.
        deltas: Output gradient, shape ``[N, O, *out]``.
        geometry: How the kernel is laid over the input.
    """

    def __init__(self, inputs: Tensor, deltas: Tensor, geometry: Geometry) -> None:
        super().__init__(inputs.shape[0], geometry.shape)
        self._inputs, self._deltas = inputs, deltas
        self._stride, self._dilation, self._groups = geometry.stride, geometry.dilation, geometry.groups

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """Unfolds a chunk of inputs and multiplies."""
        O = self.shape[0]
        fan_in = self.numel // O
        out = self._deltas.shape[2:]
        g, size = self._groups, self._deltas.element_size()
        step = workspace.chunk(self.samples, (g * fan_in * out.numel() + self.numel) * size)
        for start in range(0, self.samples, step):
            stop = min(start + step, self.samples)
            n = stop - start
            patches = workspace.take("patches", (n, self._inputs.shape[1], *self.shape[2:], *out), self._inputs)
            patches.copy_(self._windows(start, stop))
            deltas = self._deltas[start:stop].reshape(n * g, O // g, out.numel())
            rows = self._target(workspace, start, stop, self._deltas)
            patches = patches.view(n * g, fan_in, out.numel())
            torch.bmm(deltas, patches.transpose(1, 2), out=rows.view(n * g, O // g, fan_in))
            yield start, rows

    def _windows(self, start: int, stop: int) -> Tensor:
        """Every patch as a view of the padded input, shape ``[n, C, *kernel, *out]``."""
        inputs = self._inputs[start:stop]
        spatial = inputs.stride()[2:]
        within = tuple(d * s for d, s in zip(self._dilation, spatial, strict=True))
        between = tuple(t * s for t, s in zip(self._stride, spatial, strict=True))
        return inputs.as_strided(
            (*inputs.shape[:2], *self.shape[2:], *self._deltas.shape[2:]),
            (*inputs.stride()[:2], *within, *between),
        )

    @property
    def materialises(self) -> bool:
        """Always: there is no cheaper way to the norms."""
        return True

    def _drop_sources(self) -> None:
        self._inputs = self._deltas = self._deltas.new_empty(0)

    def select(self, samples: Sequence[int]) -> ConvolutionGradients:
        """Inputs and output gradients of the samples."""
        selected = copy(self)
        SampleGradients.__init__(selected, len(samples), self.shape)
        selected._inputs, selected._deltas = picked(self._inputs, samples), picked(self._deltas, samples)
        return selected

    def nbytes(self) -> int:
        """Bytes of the padded inputs and output gradients."""
        return (self._inputs.numel() + self._deltas.numel()) * self._deltas.element_size()

    def dots(self, direction: Tensor) -> Tensor:
        """From kept rows; else one forward convolution with ``V`` as kernel, then an inner product with ``δ``."""
        if (kept := self._kept_dots(direction)) is not None:
            return kept
        convolve = _CONVOLVE[len(self._stride)]
        images = convolve(
            self._inputs,
            direction.to(self._inputs.dtype),
            stride=self._stride,
            dilation=self._dilation,
            groups=self._groups,
        )
        dots: Tensor = torch.linalg.vecdot(images.flatten(1), self._deltas.flatten(1))
        return dots


def padded_as_in(inputs: Tensor, module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Tensor:
    """The input with the layer's padding made explicit, whatever its mode."""
    amounts = list(module._reversed_padding_repeated_twice)
    if not any(amounts):
        return inputs
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return F.pad(inputs, amounts, mode=mode)


class Folded(SampleGradients):
    """A sample that passed through a layer as several consecutive entries of its batch axis.

    Args:
        entries: Individual gradients of all ``N·k`` entries.
        per_sample: ``k``.
    """

    def __init__(self, entries: SampleGradients, per_sample: int) -> None:
        super().__init__(entries.samples // per_sample, entries.shape)
        self._entries, self._per_sample = entries, per_sample

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """Adds up the entries of each sample."""
        k = self._per_sample
        pending: Tensor | None = None
        sample = 0
        for _, rows in self._entries.rows(workspace):
            if pending is not None:
                rows = torch.cat([pending, rows])
            whole = len(rows) // k
            # A sample whose entries straddle two chunks waits for the second; the chunk's memory is used again.
            pending = rows[whole * k :].clone() if len(rows) % k else None
            if whole:
                yield sample, rows[: whole * k].view(whole, k, -1).sum(1)
                sample += whole

    def nbytes(self) -> int:
        """Bytes of what lies underneath."""
        return self._entries.nbytes()

    def dots(self, direction: Tensor) -> Tensor | None:
        """Inner products add over a sample's entries."""
        dots = self._entries.dots(direction)
        return None if dots is None else dots.view(self.samples, self._per_sample).sum(1)
