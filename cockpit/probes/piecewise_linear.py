r"""Whether the Hessian and the Gauss-Newton matrix have the same diagonal, told by the graph.

.. math::
    H = G + \sum_k \frac{\partial L}{\partial f_k} \nabla^2 f_k

The diagonal of the sum on the right is zero where every output is a piecewise linear function of every *single*
parameter: the graph is linear, piecewise linear, or multiplies what depends on different parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from cockpit.capture.graph.nodes import LEAF, Node, is_hook, kind
from cockpit.capture.second_order.loss_graph import LossGraph, OpenLoss

LINEAR = frozenset(
    ("Add", "Sub", "Rsub", "Neg", "Sum", "Mean", "Clone", "ToCopy", "Alias", "Expand", "Repeat", "Cat", "Stack",
     "T", "Transpose", "Permute", "View", "UnsafeView", "ReshapeAlias", "AsStrided", "Unsqueeze", "Squeeze", "Flip",
     "Slice", "Select", "Split", "SplitWithSizes", "UnsafeSplit", "Unbind", "Narrow", "Index", "IndexSelect", "Gather",
     "Embedding", "MaskedFill", "ConstantPadNd", "ReflectionPad1D", "ReflectionPad2D", "ReplicationPad1D",
     "ReplicationPad2D", "PixelShuffle", "UpsampleNearest2D", "UpsampleBilinear2D", "NativeDropout",
     "AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D")
)  # fmt: skip
"""Operations that are linear in all that they are given together."""

PIECEWISE = frozenset(
    ("Relu", "LeakyRelu", "Hardtanh", "Threshold", "Clamp", "ClampMin", "ClampMax", "Abs", "Maximum", "Minimum",
     "Max", "Min", "Amax", "Amin", "Where", "Rrelu", "RreluWithNoise", "Softshrink", "Hardshrink", "Hardsigmoid",
     "MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D")
)  # fmt: skip
"""Those that are so except where their pieces meet."""

PRODUCTS = frozenset(
    ("Mul", "Mm", "Mv", "Dot", "Bmm", "Addmm", "Addmv", "Addbmm", "Baddbmm", "Addcmul", "Convolution", "PreluKernel")
)
"""Those that are linear in each thing that they are given, one at a time."""

_EVERYTHING = -1
"""All parameters: every bit."""

_BATCH_NORM = ("NativeBatchNorm", "CudnnBatchNorm")


def same_diagonal(graph: LossGraph) -> bool:
    """Whether the Gauss-Newton diagonal is the Hessian's for certain; ``False`` where that is not known.

    Args:
        graph: The loss, just before its backward pass.
    """
    beneath: dict[Node, Node | None] = {}
    for loss in graph.losses:
        origin, below = loss.call.origin, _below(loss)
        if origin is None or below is None:
            return False
        beneath[origin.output.node] = below
    return bool(beneath) and _Parameters(beneath).of(graph.roots) is not None


def linear_above(graph: LossGraph) -> bool:
    """Whether all that is differentiated is a linear function of the loss functions' outputs, and of nothing else.

    Args:
        graph: The loss, just before its backward pass.
    """
    outputs = [loss.call.origin.output.node for loss in graph.losses if loss.call.origin is not None]
    above = _Parameters(dict.fromkeys(outputs))
    return bool(outputs) and above.of(graph.roots) == _EVERYTHING and not above.leaves


def _below(loss: OpenLoss) -> Node | None:
    """Where the graph goes on beneath a loss, whose own curvature is the Gauss-Newton matrix's business."""
    attached = [name for name, value in loss.arguments.items() if isinstance(value, Tensor) and value.requires_grad]
    if attached != ["input"]:
        return None
    node: Node = loss.arguments["input"].grad_fn
    # Log-probabilities are read as the cross-entropy that they are part of.
    if loss.name == "nll_loss":
        return node.next_functions[0][0] if node is not None and kind(node) == "LogSoftmax" else None
    return node


class _Parameters:
    """Which parameters each node depends on, one bit for each, for as long as it is piecewise linear in every one.

    Args:
        beneath: For the node of each loss, that of its input; ``None`` where it may depend on everything.
    """

    def __init__(self, beneath: dict[Node, Node | None]) -> None:
        self._beneath = beneath
        self._known: dict[Node, int] = {}
        self.leaves = 0
        """How many parameters were met."""

    def of(self, roots: Sequence[Node]) -> int | None:
        """All parameters beneath some nodes, ``None`` if one of them is not piecewise linear."""
        open_nodes = [(root, False) for root in roots]
        while open_nodes:
            node, followers_known = open_nodes.pop()
            if node in self._known:
                continue
            following = [self._beneath[node]] if node in self._beneath else [n for n, _ in node.next_functions]
            if not followers_known:
                open_nodes.append((node, True))
                open_nodes.extend((n, False) for n in following if n is not None and n not in self._known)
                continue
            found = self._at(node, [0 if n is None else self._known[n] for n in following])
            if found is None:
                return None
            self._known[node] = found
        return _union([self._known[root] for root in roots])

    def _at(self, node: Node, operands: Sequence[int]) -> int | None:
        if node in self._beneath:
            return _EVERYTHING if self._beneath[node] is None else operands[0]
        if node.name() == LEAF:
            self.leaves += 1
            return 1 << self.leaves
        if not any(operands):
            return 0
        if hasattr(type(node), "saved_tensors") and not is_hook(node):
            return None  # a function of the model's own, whatever it is called
        name = kind(node)
        if name in LINEAR or name in PIECEWISE or is_hook(node):
            return _union(operands)
        if name in PRODUCTS or (name in _BATCH_NORM and not node._saved_training):
            return _union(operands) if _disjoint(operands) else None
        return operands[0] if name == "Div" and not any(operands[1:]) else None


def _union(operands: Sequence[int]) -> int:
    union = 0
    for parameters in operands:
        union |= parameters
    return union


def _disjoint(operands: Sequence[int]) -> bool:
    union = 0
    for parameters in operands:
        if union & parameters:
            return False
        union |= parameters
    return True
