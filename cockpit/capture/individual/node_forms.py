"""Closed forms by node of the graph: from what an operation saved and its output gradient to individual gradients.

As :mod:`cockpit.capture.individual.forms`, for operations that no module stands for. A form is prepared while the
node's memory is alive and applied to the output gradient when that has come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from cockpit.capture.batch_axis import BatchAxis
from cockpit.capture.graph.nodes import Node, kind, require_plain_memory, saved
from cockpit.capture.individual.combined import Blocks
from cockpit.capture.individual.convolution import ConvolutionGradients, Folded, Geometry, zeros_around
from cockpit.capture.individual.embedding import EmbeddingGradients
from cockpit.capture.individual.gradients import Rows, SampleGradients
from cockpit.capture.individual.outer_products import OuterProducts
from cockpit.parameters import working

Apply: TypeAlias = Callable[[Tensor, BatchAxis, int], SampleGradients]
"""Output gradient, its batch axis, batch size -> individual gradients of the operation's input, of its shape."""

ELEMENTWISE = frozenset(
    ("Add", "Sub", "Rsub", "Mul", "Div", "Pow", "Where", "Maximum", "Minimum", "Lerp", "Addcmul", "Addcdiv",
     "PreluKernel", "Atan2", "Clamp", "Hypot", "Xlogy", "Logaddexp", "MaskedFill", "Expand")
)  # fmt: skip
"""Operations whose inputs are broadcast: each element of the gradient belongs to the sample whose place it has."""


def broadcast(shape: torch.Size, deltas: torch.Size, axis: BatchAxis) -> bool:
    """Whether a tensor of one shape was spread over the samples of another."""
    dim = axis.dim - len(deltas) + len(shape)
    return dim < 0 or (shape[dim] == 1 and deltas[axis.dim] > 1)


def reduced(values: Tensor, shape: torch.Size, axis: BatchAxis, samples: int) -> Rows:
    """Undoes broadcasting for each sample apart.

    Args:
        values: Shape of the output.
        shape: Shape that was broadcast to it.
        axis: Where the samples are in the output.
        samples: Batch size ``N``.
    """
    own = [1] * (values.dim() - len(shape)) + list(shape)
    del own[axis.dim]
    first = axis.samples_first(values, samples).sum(1)
    spread = [1 + d for d, size in enumerate(own) if size == 1 and first.shape[1 + d] > 1]
    first = first.sum(spread, keepdim=True) if spread else first
    return Rows(first.reshape(samples, *shape))


def form_of_node(node: Node, place: int, output: torch.Size, shape: torch.Size, axis: BatchAxis) -> Apply | None:
    """The closed form for one input of an operation, ``None`` where there is none.

    Args:
        node: The node.
        place: Which of its gradients.
        output: Shape of the operation's output.
        shape: Shape of the input.
        axis: Where the samples are in the output.

    Raises:
        Unavailable: If what the node saved cannot be had.
    """
    name = kind(node)
    if name in ("Addmm", "Mm", "Bmm"):
        return _product(node, name, place, output, shape, axis)
    if name == "Convolution" and axis.dim == 0:
        return _convolution(node, place)
    if name == "Embedding" and node._saved_scale_grad_by_freq is False:
        return _look_up(saved(node, "indices")[0], shape, padding=node._saved_padding_idx)
    if name == "Index" and len(shape) == 2 and len(node._saved_indices) == 1:
        return _index(node, shape)
    if name == "IndexSelect" and node._saved_dim == 0 and len(shape) == 2 and axis.dim == 0:
        return _look_up(saved(node, "index")[0], shape)
    if name == "NativeLayerNorm" and axis.dim < len(output) - len(shape):
        return _normalised(node, place, shape)
    return None


def _product(node: Node, name: str, place: int, output: torch.Size, shape: torch.Size, axis: BatchAxis) -> Apply | None:
    """``y = self + A B`` or ``y = A B``."""
    which = place - 1 if name == "Addmm" else place
    if which < 0:  # what is added
        factor = node._saved_beta
        fits = broadcast(shape, output, axis)
        return (lambda delta, axis, N: reduced(delta * factor, shape, axis, N)) if fits else None
    # Samples along the rows of A for B's gradient, along the columns of B for A's.
    if axis.dim != len(output) - 1 - which:
        return None
    (values,) = saved(node, "mat2" if which == 0 else "mat1" if name == "Addmm" else "self")
    factor = node._saved_alpha if name == "Addmm" else 1

    def apply(delta: Tensor, axis: BatchAxis, samples: int) -> SampleGradients:
        a, d = working(values), working(delta) * factor
        if a.dim() == 2:
            a, d = a.unsqueeze(0), d.unsqueeze(0)
        outer = [_outer(x, y, which, axis, samples) for x, y in zip(a, d, strict=True)]
        if len(outer) == 1:
            return outer[0]
        return Blocks([(i * part.numel, part) for i, part in enumerate(outer)], shape)

    return apply


def _outer(values: Tensor, delta: Tensor, which: int, axis: BatchAxis, samples: int) -> OuterProducts:
    """``Aᵀ δ`` for ``B``, ``δ Bᵀ`` for ``A``."""
    own = BatchAxis(1 - which, axis.order)
    a, d = own.samples_first(values, samples), own.samples_first(delta, samples)
    return OuterProducts(a, d) if which == 0 else OuterProducts(d, a)


def _convolution(node: Node, place: int) -> Apply | None:
    """Cross-correlation, or its transpose, in which input and output gradient change places."""
    if place == 2:
        return lambda delta, axis, N: _summed_channels(delta, axis, N)
    (inputs,) = saved(node, "input")
    (weight,) = saved(node, "weight")
    geometry = Geometry(weight.shape, tuple(node._saved_stride), tuple(node._saved_dilation), node._saved_groups)
    padding, transposed = tuple(node._saved_padding), node._saved_transposed

    def apply(delta: Tensor, axis: BatchAxis, samples: int) -> SampleGradients:
        a, d = working(inputs), working(delta)
        if transposed:
            a, d = d, a
        k = inputs.shape[0] // samples
        a, d = (axis.samples_first(t, samples).flatten(0, 1) for t in (a, d))
        gradients = ConvolutionGradients(a, d, geometry, zeros_around(padding))
        return gradients if k == 1 else Folded(gradients, k)

    return apply


def _summed_channels(delta: Tensor, axis: BatchAxis, samples: int) -> Rows:
    first = axis.samples_first(working(delta), samples).movedim(2, -1)
    return Rows(first.reshape(samples, -1, first.shape[-1]).sum(1))


def _index(node: Node, shape: torch.Size) -> Apply | None:
    """``table[indices]``; a mask is another matter."""
    require_plain_memory([node])
    (indices,) = node._saved_indices
    return None if indices is None or indices.dtype == torch.bool else _look_up(indices, shape)


def _look_up(indices: Tensor, shape: torch.Size, padding: int = -1) -> Apply:
    """Rows of a table."""

    def apply(delta: Tensor, axis: BatchAxis, samples: int) -> SampleGradients:
        deltas = axis.samples_first(working(delta), samples).reshape(samples, -1, shape[1])
        own = axis.samples_first(indices.expand(delta.shape[:-1]), samples).reshape(samples, -1)
        if 0 <= padding < shape[0]:
            deltas = deltas * (own != padding).unsqueeze(-1)
        return EmbeddingGradients(own % shape[0], deltas, shape[0])

    return apply


def _normalised(node: Node, place: int, shape: torch.Size) -> Apply:
    """Affine part of layer normalisation."""
    if place == 2:
        return lambda delta, axis, N: reduced(working(delta), shape, axis, N)
    inputs, mean, rstd = saved(node, "input", "result1", "result2")

    def apply(delta: Tensor, axis: BatchAxis, samples: int) -> SampleGradients:
        return reduced(working(delta) * ((working(inputs) - mean) * rstd), shape, axis, samples)

    return apply
