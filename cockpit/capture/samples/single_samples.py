"""Gradients of single samples' losses, taken on the side: where they are not zero, there the samples are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from cockpit.capture.graph.nodes import CHECKPOINT, before_checkpoints
from cockpit.capture.hooks.calls import ModuleCall
from cockpit.capture.losses.loss_call import Arrangement, LossCall
from cockpit.capture.samples.reentrant import Passage, Recording
from cockpit.capture.unavailable import Unavailable

Place: TypeAlias = "ModuleCall | GradientEdge"
"""Where gradients are looked at: at a call's output, or at any edge of the graph."""

Hidden: TypeAlias = tuple[tuple[Any, ...], int]
"""A call that a reentrant checkpoint makes again: its signature, and how many calls of that came before it."""

_CLOSED = "it is inside or below a checkpoint with use_reentrant=True, which could not be computed again on the side"

BOOST = 256.0
"""What gradients are multiplied with, which keeps those in float16 from underflowing."""

_FURTHER_SAMPLES = 8
"""How many more samples are asked where the gradient of the first ones ends in dead units."""


@dataclass
class Arrived:
    """What one such gradient brought.

    Args:
        at: At each place, ``None`` where nothing arrived.
        hidden: At the outputs of calls that checkpoints made again.
        passage: The way that gradients took through checkpoints; ``None`` where there are no gradients.
        closed: Why they came no further than to the checkpoints, if they did not.
    """

    at: list[Tensor | None]
    hidden: dict[Hidden, Tensor | None]
    passage: Passage | None
    closed: str | None = None

    def everywhere(self) -> Iterator[tuple[int | Hidden, Tensor | None]]:
        """By number of the place, and by hidden call."""
        yield from enumerate(self.at)
        yield from self.hidden.items()

    @property
    def mixes(self) -> bool:
        """Whether samples reach each other anywhere on the way."""
        return self.passage is not None and self.passage.mixes

    @property
    def leaves(self) -> Mapping[int, int]:
        """In how many checkpoints a tensor is a leaf, by its identity."""
        return {} if self.passage is None else self.passage.leaves


class SingleSamples:
    """Takes them."""

    def __init__(self) -> None:
        self._cotangents: dict[int, Tensor] | None = None

    @property
    def measuring(self) -> bool:
        """Whether the backward pass that is running is ours, not the user's."""
        return self._cotangents is not None

    def cotangent(self, call: ModuleCall, delta: Tensor) -> None:
        """Takes an output gradient of such a pass."""
        assert self._cotangents is not None
        self._cotangents[id(call)] = delta

    def gradients(
        self,
        loss: LossCall,
        arrangement: Arrangement,
        members: Sequence[int],
        places: Sequence[Place],
        recording: Recording,
        factors: Tensor | None = None,
    ) -> Arrived:
        """Gradients of some samples' losses alone; those of calls come by in the output's own layout.

        Args:
            loss: A loss call, its entries attached to the graph.
            arrangement: How these are dealt out.
            members: The samples.
            places: Where to look.
            recording: Records the calls of modules that checkpoints make again.
            factors: What their losses are multiplied with, one for each member.

        Raises:
            Unavailable: If the graph cannot be differentiated on the side.
        """
        self._cotangents = {}
        edges = [place.edge if isinstance(place, ModuleCall) else place for place in places]
        try:
            with torch.enable_grad():
                own = arrangement.deal(loss.entries)[list(members)]
                own = own.sum() if factors is None else (own * factors[:, None].to(own)).sum()
                arrived = _differentiated(own, edges, recording)
            for i, place in enumerate(places):
                if isinstance(place, ModuleCall):
                    arrived.at[i] = self._cotangents.get(id(place))
            if arrived.passage is not None:
                arrived.hidden = self._numbered(arrived.passage.calls)
            return arrived
        except Exception as error:  # a graph that may be walked only by backward, or a hook of the user's
            raise Unavailable(
                f"the gradient of a single sample's loss cannot be taken: {_first_line(error)}"
            ) from error
        finally:
            self._cotangents = None

    def _numbered(self, calls: Sequence[ModuleCall]) -> dict[Hidden, Tensor | None]:
        assert self._cotangents is not None
        found: dict[Hidden, Tensor | None] = {}
        count: dict[tuple[Any, ...], int] = {}
        for call in calls:
            signature = call.signature()
            earlier = count[signature] = count.get(signature, -1) + 1
            found[signature, earlier] = self._cotangents.get(id(call))
        return found


def _differentiated(own: Tensor, edges: Sequence[GradientEdge | None], recording: Recording) -> Arrived:
    """Gradients at those of the edges that can be reached, ``None`` at the others."""
    if not own.requires_grad:
        return Arrived([None] * len(edges), {}, None)
    scale = torch.full_like(own, BOOST)
    known = [edge for edge in edges if edge is not None]
    passage, closed = Passage(own.grad_fn, recording), None
    try:
        with passage.open() as beyond:
            arrived = _grad(own, [*known, *beyond], scale)
    except Exception as error:
        within = before_checkpoints(own.grad_fn)
        if not any(node.name() == CHECKPOINT for node in within):
            raise
        known = [edge for edge in known if edge.node in within]
        arrived = _grad(own, known, scale)
        passage, closed = Passage(own.grad_fn, recording), f"{_CLOSED}: {_first_line(error)}"
    found = dict(zip(known, arrived, strict=False))
    return Arrived([None if edge is None else found.get(edge) for edge in edges], {}, passage, closed)


def _grad(own: Tensor, edges: Sequence[GradientEdge], scale: Tensor) -> tuple[Tensor | None, ...]:
    if not edges:
        return ()
    return tuple(torch.autograd.grad(own, list(edges), scale, retain_graph=True, allow_unused=True))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def spread(counted: Sequence[int], turn: int) -> Iterator[int]:
    """Samples to ask: three far apart, then a few more, far apart too; others at every turn.

    Args:
        counted: Samples whose losses count.
        turn: How often was asked before.
    """
    if not counted:
        return
    last, N = len(counted) - 1, len(counted)
    places = [last, N // 2, N // 4, *(last * k // _FURTHER_SAMPLES for k in range(_FURTHER_SAMPLES))]
    yield from dict.fromkeys(counted[(place + turn) % N] for place in places)
