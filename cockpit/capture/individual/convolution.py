"""Individual gradients of convolution kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from cockpit.capture.individual.gradients import SampleGradients, picked
from cockpit.capture.individual.workspace import Workspace

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_WEIGHT_GRADIENT: dict[int, Callable[..., Tensor]] = {
    1: conv1d_weight,
    2: conv2d_weight,
    3: conv3d_weight,
}
_MANY_POSITIONS = 128
"""Output positions from which oneDNN's gradient of a grouped convolution is quicker than a product with unfolded
inputs: 20 ms to 34 for the second layer of 3c3d. With 36 positions, as in the third, it takes three times as long."""
_TOGETHER = 8
"""Samples that make one grouped convolution: with all of them, the layouts that oneDNN works in leave the cache."""
_PIECE = 32 * 2**20
"""Bytes of padded inputs and images that an inner product with all samples forms at a time."""

Padding: TypeAlias = "Callable[[Tensor], Tensor]"
"""Puts around some samples' inputs what the layer puts there."""


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


def zeros_around(padding: Sequence[int]) -> Padding:
    """Padding with zeros.

    Args:
        padding: On both sides of each spatial axis.
    """
    return _around([amount for each in reversed(padding) for amount in (each, each)], "constant")


def padding_of(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Padding:
    """A layer's padding, whatever its mode."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return _around(list(module._reversed_padding_repeated_twice), mode)


def _around(amounts: list[int], mode: str) -> Padding:
    return (lambda inputs: F.pad(inputs, amounts, mode=mode)) if any(amounts) else (lambda inputs: inputs)


class ConvolutionGradients(SampleGradients):
    """``G_n = δ_n · unfold(a_n)ᵀ`` per group.

    Rochette et al., *Efficient per-example gradient computations in convolutional neural networks* (2019).

    Args:
        inputs: Layer input, shape ``[N, C, *spatial]``.
        deltas: Output gradient, shape ``[N, O, *out]``.
        geometry: How the kernel is laid over the input.
        padding: Made explicit for a few samples at a time: the input is the training's own memory, a padded copy is
            not.
    """

    def __init__(self, inputs: Tensor, deltas: Tensor, geometry: Geometry, padding: Padding) -> None:
        super().__init__(inputs.shape[0], geometry.shape)
        self._inputs, self._deltas, self._padding = inputs, deltas, padding
        self._stride, self._dilation, self._groups = geometry.stride, geometry.dilation, geometry.groups

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """A chunk of samples at a time, in the quicker way."""
        size, out = self._deltas.element_size(), self._deltas.shape[2:]
        in_groups = self._is_quicker_in_groups()
        unfolded = 0 if in_groups else self._groups * (self.numel // self.shape[0]) * out.numel()
        step = workspace.chunk(self.samples, (unfolded + self.numel) * size)
        for start in range(0, self.samples, step):
            stop = min(start + step, self.samples)
            n = stop - start
            # One buffer for both: two would each grow to the largest of all layers.
            rest = 0 if self._kept is not None else n * self.numel
            patches, rows = workspace.take("rows", (n * unfolded + rest,), self._deltas).split([n * unfolded, rest])
            rows = rows.view(n, self.numel) if self._kept is None else self._kept[start:stop]
            if in_groups:
                self._convolve(start, rows)
            else:
                self._multiply(start, rows, patches)
            yield start, rows

    def _is_quicker_in_groups(self) -> bool:
        deltas = self._deltas
        onednn = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
        served = onednn and deltas.device.type == "cpu" and deltas.dtype == torch.float32
        return served and deltas.shape[2:].numel() >= _MANY_POSITIONS

    def _convolve(self, start: int, rows: Tensor) -> None:
        """Writes the rows from ``start`` on: each sample a group of channels of its own, in one convolution."""
        for first in range(0, len(rows), _TOGETHER):
            own = rows[first : first + _TOGETHER]
            n, at = len(own), slice(start + first, start + first + len(own))
            inputs = self._padding(self._inputs[at])
            kernels = _WEIGHT_GRADIENT[len(self._stride)](
                inputs.reshape(1, -1, *inputs.shape[2:]),
                (n * self.shape[0], *self.shape[1:]),
                self._deltas[at].reshape(1, -1, *self._deltas.shape[2:]),
                stride=self._stride,
                dilation=self._dilation,
                groups=n * self._groups,
            )
            own.copy_(kernels.view(n, -1))

    def _multiply(self, start: int, rows: Tensor, patches: Tensor) -> None:
        """Writes the rows from ``start`` on: unfolded inputs, for which there is room, times output gradients."""
        (O, *_), g, out = self.shape, self._groups, self._deltas.shape[2:]
        n, fan_in = len(rows), self.numel // O
        windows = self._windows(start, start + n)
        patches.view(windows.shape).copy_(windows)
        deltas = self._deltas[start : start + n].reshape(n * g, O // g, out.numel())
        patches = patches.view(n * g, fan_in, out.numel())
        torch.bmm(deltas, patches.transpose(1, 2), out=rows.view(n * g, O // g, fan_in))

    def _windows(self, start: int, stop: int) -> Tensor:
        """Every patch as a view of the padded input, shape ``[n, C, *kernel, *out]``."""
        inputs = self._padding(self._inputs[start:stop])
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
        """Bytes of inputs and output gradients."""
        return (self._inputs.numel() + self._deltas.numel()) * self._deltas.element_size()

    def dots(self, direction: Tensor) -> Tensor:
        """From kept rows; else one forward convolution with ``V`` as kernel, then an inner product with ``δ``."""
        if (kept := self._kept_dots(direction)) is not None:
            return kept
        convolve, kernel = _CONVOLVE[len(self._stride)], direction.to(self._inputs.dtype)
        step = max(1, _PIECE * self.samples // max(1, self.nbytes()))
        dots = []
        for inputs, deltas in zip(self._inputs.split(step), self._deltas.split(step), strict=True):
            images = convolve(
                self._padding(inputs), kernel, stride=self._stride, dilation=self._dilation, groups=self._groups
            )
            dots.append(torch.linalg.vecdot(images.flatten(1), deltas.flatten(1)))
        return torch.cat(dots)


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
