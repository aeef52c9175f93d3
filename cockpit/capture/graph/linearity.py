"""Whether what is differentiated is linear in the losses that were seen.

Only then is the gradient that arrives at a loss a scale, or the weights of a mean: at ``loss.exp()``, or at a focal
loss, it is a derivative, and dividing by it would make another loss of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from cockpit.capture.graph.nodes import Node

# fmt: off
_LINEAR = frozenset((
    "Add", "Addcmul", "Addmv", "Alias", "AsStrided", "BackwardHookFunction", "Cat", "Clone", "CopySlices",
    "Cumsum", "Diagonal", "Expand", "Flatten", "Gather", "Index", "IndexSelect", "MaskedFill", "MaskedScatter",
    "MaskedSelect",
    "Mean", "Nanmean", "Nansum", "Narrow", "Neg", "Permute", "Repeat", "RepeatInterleave", "Reshape",
    "ReshapeAlias", "Rsub", "ScatterAdd", "Segment", "Select", "Slice", "Sort", "Split", "SplitWithSizes",
    "Squeeze", "Stack", "Sub", "Sum", "Take", "ToCopy", "Topk", "Transpose", "Unbind", "Unfold", "Unsafe",
    "UnsafeView", "Unsqueeze", "View", "ViewAsReal", "Where",
))
# fmt: on
"""Operations on losses that only move, choose and add them."""

_IN_ONE_FACTOR = frozenset({"Addcdiv", "Bmm", "Dot", "LinalgVecdot", "Mm", "Mul", "Mv", "Vdot"})
"""Operations that are linear as long as no two of their inputs depend on a loss."""


def linear_in_losses(roots: Iterable[Node], losses: Collection[Node]) -> bool:
    """Whether nothing but linear operations stands between a backward pass's roots and the losses it comes to.

    Args:
        roots: What the pass starts from.
        losses: The nodes that losses came out of.
    """
    depends = _dependence(losses)
    seen: set[Node] = set()
    waiting = [root for root in roots if depends(root)]
    while waiting:
        node = waiting.pop()
        if node in losses or node in seen:
            continue
        seen.add(node)
        inputs = [(i, following) for i, (following, _) in enumerate(node.next_functions) if following is not None]
        dependent = [(i, following) for i, following in inputs if depends(following)]
        if not _is_linear(node, [i for i, _ in dependent]):
            return False
        waiting += [following for _, following in dependent]
    return True


def _is_linear(node: Node, dependent: list[int]) -> bool:
    name = re.sub(r"Backward\d*$", "", node.name())
    if name == "Div":  # by what does not depend on a loss
        return dependent == [0]
    return name in _LINEAR or (name in _IN_ONE_FACTOR and len(dependent) == 1)


def _dependence(losses: Collection[Node]) -> Callable[[Node], bool]:
    """Tells of a node whether a loss is below it; walks the graph once, without recursion."""
    known: dict[Node, bool] = {}

    def depends(root: Node) -> bool:
        stack = [(root, False)]
        while stack:
            node, children_known = stack.pop()
            if node in losses:
                known[node] = True
            elif children_known:
                known[node] = any(known.get(f, False) for f, _ in node.next_functions if f is not None)
            elif node not in known:
                known[node] = False
                stack.append((node, True))
                stack += [(f, False) for f, _ in node.next_functions if f is not None and f not in known]
        return known[root]

    return depends
