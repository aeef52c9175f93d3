"""Gradients through reentrant checkpoints, which are for ``backward`` alone.

A checkpoint with ``use_reentrant=True`` stands in the graph as a single node: what it computed is computed again when a
backward pass comes to it, and walked by a backward pass of its own, which adds to ``.grad``. On the side, its node is
made to do the same with ``torch.autograd.grad`` instead, which leaves nothing behind; then autograd's engine finds its
way through, from one checkpoint to the next and into checkpoints inside checkpoints.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from cockpit.capture.graph.nodes import CHECKPOINT, LEAF, Node, mixes, reachable, require_plain_memory
from cockpit.capture.hooks.calls import ModuleCall

Recording: TypeAlias = Callable[[], AbstractContextManager[list[ModuleCall]]]
"""Opens a context in which calls of modules go to a list of their own, and nowhere else."""


class Passage:
    """A way for gradients through the reentrant checkpoints below a node, for as long as it is open.

    Args:
        root: Where the gradients start.
        recording: Records the calls of modules that checkpoints make again.

    Attributes:
        calls: Calls that were made again, in order.
        mixes: Whether samples reach each other, below the root or in what was computed again.
        leaves: In how many checkpoints a tensor is a leaf, by its identity.
    """

    def __init__(self, root: Node, recording: Recording) -> None:
        self._root, self._recording = root, recording
        self.calls: list[ModuleCall] = []
        self.mixes = False
        self.leaves: Counter[int] = Counter()

    @contextlib.contextmanager
    def open(self) -> Iterator[list[GradientEdge]]:
        """Inside the block ``torch.autograd.grad`` may come to checkpoints.

        Returns:
            Edges just below them: it has to be asked for these, or it may stop short of them.
        """
        with self._through(list(reachable([self._root]))) as beyond:
            yield beyond

    @contextlib.contextmanager
    def _through(self, nodes: Sequence[Node]) -> Iterator[list[GradientEdge]]:
        self.mixes |= any(map(mixes, nodes))
        checkpoints = [node for node in nodes if node.name() == CHECKPOINT]
        below = dict.fromkeys(edge for node in checkpoints for edge in node.next_functions if edge[0] is not None)
        for node in checkpoints:
            # The engine asks the node before its class, so this stands before the class's own until it is deleted.
            node.apply = functools.partial(self._again, node)
        try:
            yield [GradientEdge(node, output) for node, output in below]
        finally:
            for node in checkpoints:
                del node.apply

    def _again(self, node: Node, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """What a checkpoint's node does, but for the gradients of leaves.

        Returns:
            As autograd asks of the node: one for each argument of the checkpoint, the first two of which are its own.
        """
        require_plain_memory([node])
        arguments = list(node.inputs)
        for place, tensor in zip(node.tensor_indices, node.saved_tensors, strict=True):
            # A copy, since the function may write to it.
            arguments[place] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
        with self._recording() as calls, torch.enable_grad(), _autocast(node):
            outputs = node.run_function(*arguments)
        self.calls += calls
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        known = [(t, c) for t, c in zip(outputs, cotangents, strict=True) if isinstance(t, Tensor) and t.requires_grad]
        wanted = [a for a in arguments if isinstance(a, Tensor) and a.requires_grad]
        nodes = list(reachable([t.grad_fn for t, _ in known if t.grad_fn is not None]))
        self.leaves.update({id(leaf.variable) for leaf in nodes if leaf.name() == LEAF})
        with self._through(nodes) as beyond:
            inputs: list[Any] = [*wanted, *(call.edge for call in calls), *beyond]
            tensors, given = zip(*known, strict=True)
            arrived = torch.autograd.grad(tensors, inputs, given, allow_unused=True)
        found = {id(tensor): gradient for tensor, gradient in zip(wanted, arrived, strict=False)}
        return (None, None, *(found.get(id(argument)) for argument in arguments))


@contextlib.contextmanager
def _autocast(node: Node) -> Iterator[None]:
    """Autocast as it was when the checkpoint was called."""
    with contextlib.ExitStack() as stack:
        if node.device_autocast_kwargs is not None:
            stack.enter_context(torch.autocast(node.device_type, **node.device_autocast_kwargs))
        stack.enter_context(torch.autocast("cpu", **node.cpu_autocast_kwargs))
        yield
