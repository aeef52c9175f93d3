"""The graph behind a loss as it stands."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any, NamedTuple, TypeAlias

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
    """All nodes that a loss reaches, in an order that depends on nothing but the graph: walked once, for all who ask.

    Args:
        roots: The loss's own node; several where it is differentiated in parts.

    Attributes:
        nodes: All of them.
        by_name: The same by their names.
    """

    def __init__(self, *roots: Node) -> None:
        self.nodes: list[Node] = []
        self.by_name: dict[str, list[Node]] = {}
        self._followers: list[tuple[tuple[Node | None, int], ...]] = []
        number: dict[Node, int] = {root: i for i, root in enumerate(dict.fromkeys(roots))}
        drawn: list[object] = []
        open_nodes = list(number)
        while open_nodes:
            node = open_nodes.pop()
            name, followers = node.name(), node.next_functions
            self.nodes.append(node)
            self.by_name.setdefault(name, []).append(node)
            self._followers.append(followers)
            drawn.append(name)
            for following, output in followers:
                if following is None:
                    drawn.append(None)
                    continue
                if following not in number:
                    number[following] = len(number)
                    open_nodes.append(following)
                drawn.append(number[following])
                drawn.append(output)
        self.fingerprint = hash(tuple(drawn))
        """What stays the same as long as every node does the same in the same place."""

    @functools.cached_property
    def uses(self) -> dict[Node, list[Use]]:
        """By node: who sends it gradients."""
        found: dict[Node, list[Use]] = {node: [] for node in self.nodes}
        for node, followers in zip(self.nodes, self._followers, strict=True):
            for place, (following, output) in enumerate(followers):
                if following is not None:
                    found[following].append(Use(node, place, output))
        return found

    @functools.cached_property
    def leaves(self) -> dict[int, Node]:
        """By identity of a parameter: the node where its gradient arrives."""
        return {id(node.variable): node for node in self.by_name.get(LEAF, ())}


def is_mixing(name: str) -> bool:
    """Whether nodes of a name are operations that make samples reach each other: those with batch statistics."""
    return "BatchNorm" in name


def mixes(node: Node) -> bool:
    """Whether a node is such an operation."""
    return is_mixing(node.name())


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
