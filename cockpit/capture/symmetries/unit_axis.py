"""Where the units of a layer are in what is made of its output, told by the shapes in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import TypeAlias

from cockpit.capture.graph.nodes import Node, is_hook, kind

Shape: TypeAlias = tuple[int, ...]

MOVING = frozenset(
    ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Permute", "Transpose", "T", "Clone", "ToCopy",
     "Alias")
)  # fmt: skip
"""Operations that only put elements elsewhere."""

_REGROUPING = frozenset(("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze"))
"""Those that leave the elements in their order."""

_ELEMENTWISE = frozenset(("Relu", "LeakyRelu", "RreluWithNoise", "PreluKernel", "Abs", "Neg", "NativeDropout"))

_BY_A_CONSTANT = frozenset(("Mul", "Div"))

_OVER_THE_LAST = {
    "MaxPool2DWithIndices": 2,
    "MaxPool3DWithIndices": 3,
    "AvgPool2D": 2,
    "AvgPool3D": 3,
    "AdaptiveAvgPool2D": 2,
    "AdaptiveAvgPool3D": 3,
    "AdaptiveMaxPool2D": 2,
    "AdaptiveMaxPool3D": 3,
    "ReflectionPad1D": 1,
    "ReflectionPad2D": 2,
    "ReplicationPad1D": 1,
    "ReplicationPad2D": 2,
    "UpsampleNearest1D": 1,
    "UpsampleNearest2D": 2,
    "UpsampleBilinear2D": 2,
}
"""Operations on positions, which are the last axes."""

_ALONG_AXES = frozenset(("Mean", "Sum", "Amax"))

HOMOGENEOUS = MOVING | _ELEMENTWISE | _BY_A_CONSTANT | _OVER_THE_LAST.keys() | _ALONG_AXES
"""Operations whose output is ``a`` times as large where their input is, for every ``a > 0``, as it is behind a ReLU."""


@dataclass(frozen=True)
class UnitAxis:
    """Along one axis of a tensor the entries belong to one unit after the other, after the last to the first again.

    Args:
        axis: The axis, counted from the front.
        units: How many there are.
        repeats: How many consecutive entries belong to each: more than one where positions were flattened into it.
    """

    axis: int
    units: int
    repeats: int = 1


def shape_of(node: Node) -> Shape:
    """Shape of an operation's first output."""
    return tuple(node._input_metadata[0].shape)


def axis_of(saved: int, dims: int) -> int:
    """An axis as a node saved it: those counted from the end come as unsigned numbers."""
    return (saved - (1 << 64) if saved >= 1 << 63 else saved) % dims


def carried(node: Node, place: int, before: Shape, units: UnitAxis) -> UnitAxis | None:
    """Where the units are after one of :data:`HOMOGENEOUS`.

    Args:
        node: The operation.
        place: Which of its inputs they come in with.
        before: Shape of that input.
        units: Where they are in it.

    Returns:
        ``None`` where the operation mixes units, or does something else to them.
    """
    name, after = kind(node), shape_of(node)
    if is_hook(node):
        return units if len(node.next_functions) == 1 else None
    if hasattr(type(node), "saved_tensors"):
        return None  # a function of the model's own, whatever it is called
    if name in _REGROUPING:
        return _regrouped(before, after, units)
    if name in ("Permute", "Transpose", "T"):
        return UnitAxis(_order(node, len(before)).index(units.axis), units.units, units.repeats)
    if name in _BY_A_CONSTANT:
        others = [following for at, (following, _) in enumerate(node.next_functions) if at != place]
        alone = not any(others) and (name == "Mul" or place == 0)
        return units if alone and after == before else None
    if name in _OVER_THE_LAST:
        return units if units.axis < len(before) - _OVER_THE_LAST[name] else None
    if name in _ALONG_AXES:
        return _reduced(node, len(before), units)
    same = place == 0 and after == before
    return units if same and (name in MOVING or name in _ELEMENTWISE) else None


def _order(node: Node, dims: int) -> list[int]:
    """Which axis of the input each axis of the output was."""
    order = list(range(dims))
    if kind(node) == "Permute":
        return [axis_of(axis, dims) for axis in node._saved_dims]
    if kind(node) == "T":
        return order[::-1]
    one, other = axis_of(node._saved_dim0, dims), axis_of(node._saved_dim1, dims)
    order[one], order[other] = other, one
    return order


def _regrouped(before: Shape, after: Shape, units: UnitAxis) -> UnitAxis | None:
    """In memory the unit changes every ``stride`` elements, and goes on doing so whatever the axes."""
    stride = _beyond(before)[units.axis] * units.repeats
    found = [
        UnitAxis(axis, units.units, stride // beyond)
        for axis, (size, beyond) in enumerate(zip(after, _beyond(after), strict=False))
        if stride % beyond == 0 and size % (units.units * (stride // beyond)) == 0
    ]
    in_place = [each for each in found if each.axis == units.axis]
    return next(iter(in_place or found[::-1]), None)


def _beyond(shape: Sequence[int]) -> list[int]:
    """How many elements lie between two neighbours along each axis."""
    return list(accumulate(shape[:0:-1], mul, initial=1))[::-1]


def _reduced(node: Node, dims: int, units: UnitAxis) -> UnitAxis | None:
    """A sum, mean or maximum over positions."""
    saved = getattr(node, "_saved_dim", None)
    if saved is None:
        return None
    axes = {axis_of(axis, dims) for axis in ((saved,) if isinstance(saved, int) else saved)}
    if not axes or units.axis in axes:
        return None
    gone = 0 if node._saved_keepdim else sum(axis < units.axis for axis in axes)
    return UnitAxis(units.axis - gone, units.units, units.repeats)
