"""Operations that move rows between samples, and whether they do it as when it was last looked where samples are.

Masks, routing and sorting take their indices from the data: tensors of the same shapes, and other samples in them. What
decides is boiled down to one number, so that to ask costs next to nothing as long as it stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cockpit.capture.graph.nodes import LEAF, Graph, Node, is_mixing, reachable, require_plain_memory
from cockpit.capture.unavailable import Unavailable

_INDICES = {
    "Gather": "index",
    "Index": "indices",
    "IndexAdd": "index",
    "IndexCopy": "index",
    "IndexPut": "indices",
    "IndexReduce": "index",
    "IndexSelect": "index",
    "MaskedScatter": "mask",
    "MaskedSelect": "mask",
    "PackPaddedSequence": "result1",
    "Scatter": "index",
    "ScatterAdd": "index",
    "ScatterReduce": "index",
    "Sort": "indices",
    "Take": "index",
    "Topk": "indices",
}
"""By operation, the saved tensor that tells from where to where it moves."""

_NUMBERS = {
    "AsStrided": ("size", "stride", "storage_offset"),
    "Cat": ("dim",),
    "Flip": ("dims",),
    "Permute": ("dims",),
    "Repeat": ("repeats",),
    "Roll": ("shifts", "dims"),
    "Select": ("dim", "index"),
    "Slice": ("dim", "start", "end", "step"),
    "Split": ("dim", "split_size"),
    "SplitWithSizes": ("dim", "split_sizes"),
    "Stack": ("dim",),
    "Transpose": ("dim0", "dim1"),
    "Unbind": ("dim",),
}
"""By operation, the saved numbers that tell so."""

_PIECES = frozenset({"Select", "Slice", "Split", "SplitWithSizes", "Unbind"})
"""Operations with which samples of different lengths can be cut out one by one."""

_SAME_ROWS = frozenset({"Alias", "Clone", "Expand", "Permute", "Reshape", "T", "ToCopy", "Transpose", "View"})


@dataclass(frozen=True)
class RowMoves:
    """What the graph behind a loss does with rows.

    Args:
        key: Stays the same as long as rows are moved in the same way; ``None`` where that cannot be told.
        culprit: Name of an operation that may move samples: whose indices are data, or that cuts pieces out; ``None``
            if there is none.
        by_data: Whether the indices of one are data.
        below_mixing: Whether data decide where rows go below an operation that makes samples reach each other.
    """

    key: int | None
    culprit: str | None
    by_data: bool
    below_mixing: bool

    @property
    def any(self) -> bool:
        """Whether samples may lie in places of their own."""
        return self.culprit is not None

    @classmethod
    def of(cls, graph: Graph | None) -> RowMoves:
        """Those of all operations that a loss was made by.

        Args:
            graph: The graph behind the loss; ``None`` where no operation made it.
        """
        if graph is None:
            return cls(0, None, by_data=False, below_mixing=False)
        parts: list[object] = [graph.fingerprint]
        readable = True
        by_data: list[Node] = []
        pieces: list[Node] = []
        for name, nodes in graph.by_name.items():
            operation = _operation(name)
            for number in _NUMBERS.get(operation, ()):
                parts += [_hashable(getattr(node, f"_saved_{number}", None)) for node in nodes]
            if operation in _PIECES:
                pieces += nodes
            for node in nodes if operation in _INDICES or "Scatter" in operation else ():
                if _along_features(node) or _of_a_weight(node):
                    continue
                content = _indices(node, operation)
                if content == ("each",):
                    continue
                by_data.append(node)
                readable = readable and content is not None
                parts.append(content)
        culprit = next((node.name() for node in (*by_data, *pieces)), None)
        key = hash(tuple(parts)) if readable else None
        return cls(key, culprit, bool(by_data), _any_below_mixing(graph, by_data))


def _any_below_mixing(graph: Graph, nodes: Sequence[Node]) -> bool:
    mixing = [node for name, alike in graph.by_name.items() if is_mixing(name) for node in alike] if nodes else []
    below = set(reachable(mixing))
    return any(node in below for node in nodes)


def _operation(name: str) -> str:
    return name.partition("Backward")[0]


def _hashable(value: Any) -> object:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _along_features(node: Node) -> bool:
    """Whether it moves along the last axis of several, as where the class's own score is picked."""
    dim, shape = getattr(node, "_saved_dim", None), node._input_metadata[0].shape
    if not isinstance(dim, int):
        return False
    dim -= 2**64 if dim >= 2**63 else 0  # saved without its sign
    return len(shape) > 1 and dim in (-1, len(shape) - 1)


def _of_a_weight(node: Node) -> bool:
    """Whether it looks something up in a parameter, such as a table of relative positions."""
    following = node.next_functions[0][0]
    while following is not None and _operation(following.name()) in _SAME_ROWS:
        following = following.next_functions[0][0]
    return following is not None and following.name() == LEAF and isinstance(following.variable, nn.Parameter)


def _indices(node: Node, operation: str) -> tuple[object, ...] | None:
    """What its indices are; ``("each",)`` where one of them takes every row in order, ``None`` where that is not
    known."""
    name = f"_saved_{_INDICES.get(operation, '')}"
    try:
        require_plain_memory([node])
        kept = getattr(node, name, None)
    except (Unavailable, RuntimeError):
        return None
    tensors = list(kept) if isinstance(kept, (list, tuple)) else [kept]
    if not any(isinstance(tensor, Tensor) for tensor in tensors):
        return None
    if operation == "Index" and _each(tensors, node._saved_self_sym_sizes):
        return ("each",)
    return tuple(None if t is None else (tuple(t.shape), t.detach().cpu().numpy().tobytes()) for t in tensors)


def _each(indices: list[Tensor | None], sizes: list[int]) -> bool:
    """Whether one axis is gone along row by row, as where each sample's last word is taken."""
    return any(
        index is not None
        and index.dtype == torch.int64
        and index.numel() == size
        and torch.equal(index.flatten(), torch.arange(size, device=index.device))
        for index, size in zip(indices, sizes, strict=False)
    )
