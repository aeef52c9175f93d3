"""Where a parameter, or what was made of it alone, first meets batched data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from cockpit.capture.batch_axis import BatchAxis
from cockpit.capture.graph.nodes import Node, between, kind, require_plain_memory
from cockpit.capture.individual.combined import Blocks, Rearranged
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.individual.node_forms import ELEMENTWISE, broadcast, form_of_node, reduced
from cockpit.capture.individual.outer_products import OuterProducts
from cockpit.capture.individual.recurrent import FusedLayer
from cockpit.capture.unavailable import Unavailable
from cockpit.capture.walk.pullback import Pullback, pull
from cockpit.capture.walk.pulled import Masked, Pulled
from cockpit.parameters import working

_VIEWS = frozenset(
    ("T", "Transpose", "Permute", "View", "UnsafeView", "ReshapeAlias", "Unsqueeze", "Squeeze", "Slice", "Select",
     "Split", "SplitWithSizes", "UnsafeSplit", "Unbind", "Narrow", "Alias", "Clone", "ToCopy", "AsStrided")
)  # fmt: skip
"""Operations that only put elements elsewhere, or leave some out."""

Form: TypeAlias = Callable[[Sequence[Tensor | None]], SampleGradients]
"""Gradients at an operation's outputs -> individual gradients of one of its inputs, or of the parameter itself."""


@dataclass(frozen=True)
class Views:
    """What became of a parameter's elements before they met data: they were put elsewhere, or left out.

    Args:
        offset: First element that was used.
        source: Where each used element went; ``None`` where they kept their order.
        transposed: Whether that is the order of a transposed matrix.
        contiguous: Whether the used elements are all that lie between the first and the last of them.
    """

    offset: int
    source: Tensor | None
    transposed: bool
    contiguous: bool

    @classmethod
    def of(cls, region: Sequence[Node], output: int) -> Views | None:
        """Read off a part of the graph; ``None`` where it does anything else.

        Args:
            region: From what meets the data to the parameter.
            output: Which output of the first node does.
        """
        if not all(kind(node) in _VIEWS for node in region[:-1]):
            return None
        shape = torch.Size(region[0]._input_metadata[output].shape)
        numbers = torch.arange(1, shape.numel() + 1, dtype=torch.float64, device=region[-1].variable.device)
        places = pull(region, {(region[0], output): numbers.view(shape)})
        if places is None or places.dtype != torch.float64:  # a cast that would round the numbers
            return None
        source = places.reshape(-1).long() - 1
        used = (source >= 0).nonzero().flatten()
        start, stop = int(used[0]), int(used[-1]) + 1
        block = source[start:stop]
        if len(used) != shape.numel() or len(block) != len(used):
            return cls(0, source, transposed=False, contiguous=False)
        plain = torch.arange(len(block), device=block.device)
        matrix = [size for size in shape if size > 1]
        if torch.equal(block, plain):
            return cls(start, None, transposed=False, contiguous=True)
        transposed = len(matrix) == 2 and torch.equal(block, plain.view(matrix).T.reshape(-1))
        return cls(start, block, transposed, contiguous=True)

    def apply(self, inner: SampleGradients, shape: torch.Size) -> SampleGradients:
        """Individual gradients of the parameter.

        Args:
            inner: Individual gradients of what was made of it.
            shape: Shape of the parameter.
        """
        if not self.contiguous:
            assert self.source is not None
            return Rearranged(inner, self.source, shape)
        if self.transposed and isinstance(inner, OuterProducts):
            inner = inner.transposed()
        elif self.source is not None:
            inner = Rearranged(inner, self.source, inner.shape)
        return inner if inner.shape == shape else Blocks([(self.offset, inner)], shape)


@dataclass(frozen=True)
class Spot:
    """A consumer, as it is found again in the next step's graph.

    Args:
        position: Of the node in the graph.
        place: Which of its gradients flows on to the parameter.
        output: Which output of the node below that belongs to.
        axes: The batch axis of each of its outputs; ``None`` where an output took no part.
        problem: Why it cannot be read, if it cannot.
        reached: Whether a gradient came by when its axes were looked for.
        views: What became of the parameter's elements on the way there, if only their order changed.
    """

    position: int
    place: int
    output: int
    axes: tuple[BatchAxis | None, ...] = ()
    problem: str | None = None
    reached: bool = True
    views: Views | None = None


class Consumer:
    """One spot in one step's graph.

    Args:
        node: The node there.
        spot: What is known of it.
        leaf: Where the parameter's gradient arrives.
        free: Nodes without a batch axis above the leaf: the ways from the spot to the parameter lead over these alone.
        samples: Batch size ``N``.
        fused: Recurrent layers that were met already, by node.
    """

    def __init__(
        self, node: Node, spot: Spot, leaf: Node, free: Set[Node], samples: int, fused: dict[Node, FusedLayer]
    ) -> None:
        self.node, self.spot, self.samples = node, spot, samples
        self.device, self.problem, self.closed = leaf.variable.device.type, spot.problem, True
        self.shape = torch.Size(leaf.variable.shape)
        self.arrived: SampleGradients | None = None
        self.visits = 0
        self._form: Form | None = None
        if self.problem is None and spot.reached:
            with self._excused():
                self._form = self._prepared(leaf, free, fused)

    def take(self, deltas: Sequence[Tensor | None]) -> None:
        """The gradient has come, and the node has not given its memory back yet.

        Args:
            deltas: One for each output of the node.
        """
        self.visits += 1
        known = [None if delta is None else delta.detach() for delta in deltas]
        if not any(delta is not None and bool(delta.any()) for delta in known):
            return
        if not self.spot.reached:
            self.problem = f"'{self.node.name()}': no gradient of the samples that were asked reached it"
        if self._form is not None:
            with self._excused():
                self.arrived = self._form(known)

    @contextlib.contextmanager
    def _excused(self) -> Iterator[None]:
        """What cannot be done with an operation costs its parameter, not the reading."""
        try:
            yield
        except Unavailable as reason:
            self.problem = str(reason)
        except (RuntimeError, ValueError, NotImplementedError, TypeError, AttributeError) as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            self.problem = f"'{self.node.name()}' cannot be read: {said}"

    def _prepared(self, leaf: Node, free: Set[Node], fused: dict[Node, FusedLayer]) -> Form:
        """While the graph is alive: what the form needs of it, and the way from there to the parameter."""
        child = self.node.next_functions[self.spot.place][0]
        region = between(child, leaf, free)
        form = self._closed(torch.Size(child._input_metadata[self.spot.output].shape), fused)
        if form is None:
            self.closed = False
            return self._masked([self.node, *region])
        if len(region) == 1:
            return form
        if (views := self.spot.views) is not None:
            return lambda deltas: views.apply(form(deltas), self.shape)
        pullback = Pullback(region, [self.spot.output])
        entry = torch.Size(child._input_metadata[self.spot.output].shape)
        return lambda deltas: Pulled(form(deltas), pullback, entry, self.shape)

    def _closed(self, shape: torch.Size, fused: dict[Node, FusedLayer]) -> Form | None:
        node, place, axes, N = self.node, self.spot.place, self.spot.axes, self.samples
        if kind(node) == "MkldnnRnnLayer" and 1 <= place <= 4:
            layer = fused.get(node) or fused.setdefault(node, FusedLayer(node))
            return lambda deltas: layer.gradients(place, deltas, axes, N)
        if len(axes) != 1 or axes[0] is None:
            return None
        axis, output = axes[0], torch.Size(node._input_metadata[0].shape)
        if kind(node) in ELEMENTWISE:
            return self._elementwise(shape, axis) if broadcast(shape, output, axis) else None
        apply = form_of_node(node, place, output, shape, axis)
        return None if apply is None else lambda deltas: apply(_only(deltas), axis, N)

    def _elementwise(self, shape: torch.Size, axis: BatchAxis) -> Form:
        """The engine would sum over what was broadcast; the node itself does not."""
        require_plain_memory([self.node])

        def form(deltas: Sequence[Tensor | None]) -> SampleGradients:
            spread = _only(deltas)
            if kind(self.node) != "Expand":
                spread = pull_one(self.node, self.spot.place, spread)
            return reduced(working(spread), shape, axis, self.samples)

        return form

    def _masked(self, region: Sequence[Node]) -> Form:
        outputs = [i for i, axis in enumerate(self.spot.axes) if axis is not None]
        axes = [axis for axis in self.spot.axes if axis is not None]
        pullback = Pullback(region, outputs, self.spot.place)
        shapes = [region[0]._input_metadata[i].shape for i in outputs]

        def form(deltas: Sequence[Tensor | None]) -> SampleGradients:
            found = [deltas[i] for i in outputs]
            like = next(delta for delta in found if delta is not None)
            whole = [
                working(like.new_zeros(tuple(shape)) if delta is None else delta)
                for delta, shape in zip(found, shapes, strict=True)
            ]
            return Masked(pullback, whole, axes, self.samples, self.shape)

        return form


def pull_one(node: Node, place: int, delta: Tensor) -> Tensor:
    """One of a node's gradients, before broadcasting is undone."""
    result = node(delta)
    gradient: Tensor = result[place] if isinstance(result, tuple) else result
    return gradient


def _only(deltas: Sequence[Tensor | None]) -> Tensor:
    (delta,) = deltas
    assert delta is not None
    return delta
