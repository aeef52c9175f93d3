"""Layers as the graph shows them: operations with weights of their own, and which of these belong to which unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from cockpit.capture.graph.nodes import Graph, Node, kind
from cockpit.parameters import ParameterTable


@dataclass(frozen=True)
class UnitWeights:
    """Which elements of a parameter belong to which unit.

    Args:
        index: The parameter's place in the table.
        shape: Its shape, with groups of channels apart, and positions of a kernel together.
        kept: The axes that count the units, or their positions; over all others is summed.
        units: How many units take turns along these; ``None``: there is one for each entry.
        repeats: So many consecutive entries belong to one of them.
        divided: Whether a symmetry divides them where it multiplies others.
    """

    index: int
    shape: tuple[int, ...]
    kept: tuple[int, ...] = (0,)
    units: int | None = None
    repeats: int = 1
    divided: bool = False

    def sums(self, values: Tensor) -> Tensor:
        """Sum over each unit's elements.

        Args:
            values: Of the parameter's shape.

        Returns:
            Float64, shape ``[units]``.
        """
        others = [axis for axis in range(len(self.shape)) if axis not in self.kept]
        split = values.reshape(self.shape)
        sums = split.sum(others, dtype=torch.float64) if others else split.double()
        if self.units is None:
            return sums.reshape(-1)
        return sums.reshape(-1, self.units, self.repeats).sum((0, 2))


@dataclass(frozen=True)
class Layer:
    """A linear map, a convolution, or the affine part of batch normalisation.

    Args:
        node: The operation.
        data: Which of its inputs the data are.
        name: Dotted name of its weight.
        incoming: Weight and bias by output unit.
        outgoing: The weight by input feature; ``None`` in batch normalisation.
        columns: The weight by input feature and position in the kernel, each a vector over all outputs; ``None`` where
            groups keep outputs from seeing all inputs.
        units: Number of outputs, which are the second axis.
        features: Number of inputs.
        incomplete: Why ``incoming`` is not all that makes an output; ``None`` if it is.
    """

    node: Node
    data: int
    name: str
    incoming: tuple[UnitWeights, ...]
    outgoing: UnitWeights | None
    columns: UnitWeights | None
    units: int
    features: int
    incomplete: str | None


@dataclass(frozen=True)
class _Operand:
    """A parameter where it meets data.

    Args:
        index: The parameter's place in the table.
        transposed: Whether it is used as a transposed matrix.
    """

    index: int
    transposed: bool


_Axes: TypeAlias = tuple[int, ...]

_PLACES: dict[str, tuple[int, int, int | None]] = {"Addmm": (1, 2, 0), "Mm": (0, 1, None), "Convolution": (0, 1, 2)}
"""Where data, weight and bias come in."""


def layers_of(graph: Graph, table: ParameterTable) -> tuple[dict[Node, Layer], dict[str, str]]:
    """The layers by node, and why parameters are in none that can be read: by name.

    Args:
        graph: The loss's.
        table: The watched parameters.
    """
    operands: dict[Node, dict[int, _Operand]] = {}
    left_out: dict[str, str] = {}
    for index, parameter in enumerate(table):
        leaf = graph.leaves.get(id(parameter.tensor))
        if leaf is None:
            continue
        met = _met(graph, leaf)
        if met is None:
            left_out[parameter.name] = "it is used several times"
            continue
        node, place, transposed = met
        operands.setdefault(node, {})[place] = _Operand(index, transposed)
    found = {node: _layer(node, own, table) for node, own in operands.items()}
    return {node: layer for node, layer in found.items() if layer is not None}, left_out


def _met(graph: Graph, leaf: Node) -> tuple[Node, int, bool] | None:
    """The operation that takes a parameter, at which place, and whether transposed; ``None`` if there are several."""
    node, transposed = leaf, False
    while True:
        if len(graph.uses[node]) != 1:
            return None
        ((above, place, _),) = graph.uses[node]
        if kind(above) in ("T", "Transpose"):
            transposed = not transposed
        elif kind(above) != "ToCopy":
            return above, place, transposed
        node = above


def is_batch_norm(node: Node) -> bool:
    """Whether an operation normalises channels over the batch, by whatever library."""
    return kind(node) in ("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm")


def is_product(node: Node) -> bool:
    """Whether an operation is one that layers multiply data and weight with."""
    return kind(node) in _PLACES


def _layer(node: Node, operands: dict[int, _Operand], table: ParameterTable) -> Layer | None:
    if not is_batch_norm(node) and not is_product(node):
        return None
    data, weight_at, bias_at = _PLACES.get(kind(node), (0, 1, 2))
    if weight_at not in operands:
        return None
    weight = operands[weight_at]
    shape = tuple(table[weight.index].tensor.shape)
    split, out, into = _split(node, shape, weight.transposed)
    bias = None if bias_at is None else operands.get(bias_at)
    incoming = [UnitWeights(weight.index, split, out)]
    units = _size(split, out)
    if bias is not None:
        incoming.append(UnitWeights(bias.index, (units,)))
    columns = None
    if into and (len(split) == 2 or split[0] == 1):  # every output sees every input
        columns = UnitWeights(weight.index, split, tuple(axis for axis in range(len(split)) if axis != out[-1]))
    return Layer(
        node,
        data,
        table[weight.index].name,
        tuple(incoming),
        UnitWeights(weight.index, split, into) if into else None,
        columns,
        units,
        _size(split, into) if into else units,
        None if bias is not None or not _has_bias(node, bias_at) else "its bias is no trained parameter of its own",
    )


def _split(node: Node, shape: Sequence[int], transposed: bool) -> tuple[_Axes, _Axes, _Axes]:
    """The shape of a weight with its groups apart, and the axes that count outputs and inputs."""
    if is_batch_norm(node):
        return tuple(shape), (0,), ()
    if kind(node) != "Convolution":
        return tuple(shape), ((0,) if transposed else (1,)), ((1,) if transposed else (0,))
    groups = node._saved_groups
    split = (groups, shape[0] // groups, shape[1], -1)
    first, second = (0, 1), (0, 2)
    return (split, second, first) if node._saved_transposed else (split, first, second)


def _size(shape: Sequence[int], axes: Sequence[int]) -> int:
    size = 1
    for axis in axes:
        size *= shape[axis]
    return size


def _has_bias(node: Node, place: int | None) -> bool:
    """Whether something is added to the outputs."""
    if kind(node) == "Convolution":
        return node._saved_bias_sym_sizes_opt is not None
    return place is not None  # a product without a bias is another operation
