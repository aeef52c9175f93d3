"""The graph behind a loss as it stands, and vector-Jacobian products taken node by node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.modules._functions import BackwardHookFunction

from cockpit.capture.unavailable import Unavailable

Node: TypeAlias = Any
"""A node of autograd's graph; torch's own annotation knows neither what it saved nor that it can be called."""

CHECKPOINT = "CheckpointFunctionBackward"
"""A checkpoint with ``use_reentrant=True``: it computes again what it forgot, and walks that backwards itself."""

LEAF = "torch::autograd::AccumulateGrad"
"""Where the gradient of a tensor that was made by no operation arrives."""


class Use(NamedTuple):
    """One node whose gradient flows on to another.

    Args:
        node: The node further up, nearer to the loss.
        place: Which of its gradients flows on.
        output: Which output of the node below it belongs to.
    """

    node: Node
    place: int
    output: int


class Graph:
    """All nodes that a loss reaches, in an order that depends on nothing but the graph.

    Args:
        roots: The loss's own node; several where it is differentiated in parts.
    """

    def __init__(self, *roots: Node) -> None:
        self.nodes: list[Node] = []
        self.uses: dict[Node, list[Use]] = {root: [] for root in roots}
        """By node: who sends it gradients."""
        self.leaves: dict[int, Node] = {}
        """By identity of a parameter: the node where its gradient arrives."""
        open_nodes = list(self.uses)
        while open_nodes:
            node = open_nodes.pop()
            self.nodes.append(node)
            if node.name() == LEAF:
                self.leaves[id(node.variable)] = node
            for place, (following, output) in enumerate(node.next_functions):
                if following is None:
                    continue
                if following not in self.uses:
                    self.uses[following] = []
                    open_nodes.append(following)
                self.uses[following].append(Use(node, place, output))

    def fingerprint(self) -> int:
        """What stays the same as long as every node stays in its place."""
        return hash(tuple([node.name() for node in self.nodes]))


def mixes(node: Node) -> bool:
    """Whether a node is an operation that makes samples reach each other: one with batch statistics."""
    return "BatchNorm" in node.name()


def kind(node: Node) -> str:
    """The operation whose derivative a node is: ``Addmm``."""
    return str(node.name().removesuffix("0").removesuffix("1").removesuffix("Backward"))


def is_hook(node: Node) -> bool:
    """Whether a node does nothing but call a module's full backward hooks, such as BackPACK's."""
    return getattr(type(node), "_forward_cls", None) is BackwardHookFunction


def require_plain_memory(nodes: Sequence[Node]) -> None:
    """Refuses nodes whose saved tensors are not simply there.

    A checkpoint would compute them once more for us, and then refuse to hand them to the user's own backward pass.

    Raises:
        Unavailable: If one of the nodes packed what it saved, or cannot say.
    """
    for node in nodes:
        for name in dir(node):
            if not name.startswith("_raw_saved"):
                continue
            saved = getattr(node, name)
            for each in saved if isinstance(saved, (tuple, list)) else (saved,):
                if getattr(each, "unpack_hook", node) is not None:
                    raise Unavailable(
                        f"what '{node.name()}' saved is packed, as under a checkpoint, and must not be looked at twice"
                    )


def reachable(roots: Iterable[Node], short_of: str = "") -> Iterator[Node]:
    """Every node that gradients come to, each once.

    Args:
        roots: Where they start.
        short_of: Name of nodes that they come to and do not leave.
    """
    seen = set(roots)
    open_nodes = list(seen)
    while open_nodes:
        node = open_nodes.pop()
        yield node
        if node.name() != short_of:
            fresh = {following for following, _ in node.next_functions if following is not None} - seen
            seen |= fresh
            open_nodes.extend(fresh)


def before_checkpoints(root: Node) -> set[Node]:
    """Nodes that can be differentiated without a reentrant checkpoint, which is for ``backward`` alone."""
    return set(reachable([root], short_of=CHECKPOINT))


def between(start: Node, end: Node, within: Set[Node]) -> list[Node]:
    """All nodes on paths from one node to another, both included, every node before those it sends gradients to.

    Args:
        start: Nearer to the loss.
        end: Further down.
        within: Nodes that the paths may lead over.
    """
    leads: dict[Node, bool] = {end: True}
    order: list[Node] = [end]
    open_nodes: list[tuple[Node, bool]] = [(start, False)]
    while open_nodes:
        node, left = open_nodes.pop()
        followers = [following for following, _ in node.next_functions if following in within or following is end]
        if left:
            if leads.setdefault(node, any(leads.get(following, False) for following in followers)):
                order.append(node)
        elif node not in leads:
            open_nodes.append((node, True))
            open_nodes.extend((following, False) for following in followers if following not in leads)
    return order[::-1]


def pull(region: Sequence[Node], arriving: Mapping[tuple[Node, int], Tensor], only: int | None = None) -> Tensor | None:
    """A vector-Jacobian product that calls every node of a region once, without the engine, and so without any hook.

    Args:
        region: As :func:`between` returns them; the product is taken down to the last.
        arriving: Gradients by node and output.
        only: Which of the first node's gradients to follow; all if ``None``.

    Returns:
        The gradient that arrives at the last node's first output, ``None`` if none does.

    Raises:
        Unavailable: If a node can be called by the engine alone.
    """
    inside, end = set(region), region[-1]
    pending: dict[Node, list[Tensor | None]] = {}
    for (node, output), given in arriving.items():
        pending.setdefault(node, [None] * len(node._input_metadata))[output] = given
    for node in region[:-1]:
        gradients = pending.pop(node, None)
        if gradients is None:
            continue
        for place, gradient in enumerate(_called(node, gradients)):
            following, output = node.next_functions[place]
            elsewhere = only is not None and node is region[0] and place != only
            if gradient is None or following not in inside or elsewhere:
                continue
            metadata = following._input_metadata
            slots = pending.setdefault(following, [None] * len(metadata))
            # The engine undoes broadcasting on the way from node to node.
            whole = gradient.sum_to_size(metadata[output].shape)
            held = slots[output]
            slots[output] = whole if held is None else held + whole
    return pending.get(end, [None])[0]


def _called(node: Node, gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    if not callable(node) or hasattr(node, "saved_tensors"):
        raise Unavailable(
            f"'{node.name()}' is a function of the model's own, which cannot be differentiated on the side"
        )
    result = node(*gradients)
    return result if isinstance(result, tuple) else (result,)


def saved(node: Node, *names: str) -> list[Tensor]:
    """Tensors that a node saved, detached.

    Raises:
        Unavailable: If they were overwritten since, or are not simply there.
    """
    require_plain_memory([node])
    try:
        return [getattr(node, f"_saved_{name}").detach() for name in names]
    except RuntimeError as error:
        raise Unavailable(f"what '{node.name()}' saved was overwritten: {str(error).splitlines()[0]}") from error


class Pullback:
    """``u ↦ Jᵀu`` through a part of the graph, usable after the graph has been walked and its memory given back.

    ``Jᵀv`` is differentiated with respect to ``v``, which gives ``Jw``, and that with respect to ``w``: the graph that
    makes is ours, and holds what it needs of the first.

    Args:
        region: As :func:`between` returns them.
        entries: Outputs of its first node at which gradients arrive.
        only: Which of the first node's gradients to follow; all if ``None``.

    Raises:
        Unavailable: If the part cannot be differentiated twice.
    """

    def __init__(self, region: Sequence[Node], entries: Sequence[int], only: int | None = None) -> None:
        require_plain_memory(region)
        start, leaf = region[0], region[-1]
        with torch.enable_grad():
            self._ins = [_probe(start, entry) for entry in entries]
            self._w = torch.zeros_like(leaf.variable).requires_grad_()
            try:
                arriving = {(start, e): v for e, v in zip(entries, self._ins, strict=True)}
                self._y = pull(region, arriving, only)
                self._images = self._forward(self._w, create_graph=True)
            except (RuntimeError, NotImplementedError, TypeError) as error:
                reason = str(error).splitlines()[0]
                raise Unavailable(f"'{start.name()}' cannot be differentiated on the side: {reason}") from error
        self._vectorised = True

    def _forward(self, w: Tensor, create_graph: bool) -> list[Tensor | None]:
        if self._y is None or not self._y.requires_grad:
            return [None for _ in self._ins]
        return list(
            torch.autograd.grad(
                self._y, self._ins, w.to(self._y.dtype), create_graph=create_graph, retain_graph=True, allow_unused=True
            )
        )

    def image(self, direction: Tensor) -> list[Tensor]:
        """``J V`` at each entry.

        Args:
            direction: ``V``, of the parameter's shape.
        """
        with torch.enable_grad():
            images = self._forward(direction, create_graph=False)
        return [
            torch.zeros_like(v) if image is None else image.detach() for v, image in zip(self._ins, images, strict=True)
        ]

    def __call__(self, gradients: Sequence[Tensor]) -> Tensor:
        """``Jᵀ u_n`` for many ``u_n``.

        Args:
            gradients: One for each entry, shape ``[n, *output]``.

        Returns:
            Shape ``[n, *parameter]``.
        """
        known = [(z, u) for z, u in zip(self._images, gradients, strict=True) if z is not None and z.requires_grad]
        n = len(gradients[0])
        if not known:
            return self._w.detach().new_zeros(n, *self._w.shape)
        images = [z for z, _ in known]
        cotangents = [u.to(z.dtype) for z, u in known]
        if self._vectorised:
            try:
                return self._pulled(images, cotangents, batched=True)
            except (RuntimeError, NotImplementedError):  # an operation that cannot be vectorised: one at a time
                self._vectorised = False
        return torch.stack([self._pulled(images, [u[i] for u in cotangents], batched=False) for i in range(n)])

    def _pulled(self, images: list[Tensor], cotangents: list[Tensor], batched: bool) -> Tensor:
        (gradient,) = torch.autograd.grad(images, self._w, cotangents, retain_graph=True, is_grads_batched=batched)
        return gradient.detach()


def _probe(node: Node, output: int) -> Tensor:
    metadata = node._input_metadata[output]
    return torch.zeros(tuple(metadata.shape), dtype=metadata.dtype, device=metadata.device, requires_grad=True)
