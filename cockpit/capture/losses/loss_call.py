"""A loss call: what was seen of it, and how its entries belong to samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from cockpit.capture.graph.nodes import Graph, Node

EMPTY = "the batch is empty"


@dataclass(frozen=True)
class IndividualLosses:
    """One loss per sample: ``L = Σ_n w_n l_n``.

    Args:
        values: ``l_n``, the mean over the sample's own loss entries that count; 0 where none does. Shape ``[N]``.
        weights: ``w_n``, non-negative, adding up to 1; all equal to ``1/N`` for a plain mean. Shape ``[N]``.
    """

    values: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Arrangement:
    """How loss entries are dealt out to samples.

    Args:
        samples: Batch size ``N``.
        axis: Axis of the entries that is the batch; ``None`` where samples and positions share one.
        order: Where they share one, whether a sample's entries stand together (``block``) or a position's (``stride``).
    """

    samples: int
    axis: int | None = None
    order: Literal["block", "stride"] = "block"

    def fits(self, shape: torch.Size) -> bool:
        """Whether entries of this shape can be dealt out so."""
        if self.axis is not None:
            return self.axis < len(shape) and shape[self.axis] == self.samples > 0
        return len(shape) > 0 and shape.numel() > 0 and self.samples > 0 and shape.numel() % self.samples == 0

    def deal(self, entries: Tensor) -> Tensor:
        """Entries by sample, shape ``[N, k]``.

        Args:
            entries: Loss entries of a shape that fits.
        """
        if self.axis is not None:
            return entries.movedim(self.axis, 0).reshape(self.samples, -1)
        if self.order == "block":
            return entries.reshape(self.samples, -1)
        return entries.reshape(-1, self.samples).T


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a loss call hangs in the graph.

    Args:
        arguments: What the function was called with, by name, with ``reduction="none"``; empty for registered losses.
        output: The edge that the gradient of what came out will arrive at.
        entries: Loss entries, attached.
    """

    arguments: Mapping[str, Any]
    output: GradientEdge
    entries: Tensor


@dataclass(eq=False)
class LossCall:
    """One loss computed during a tracked step.

    Args:
        name: How it was computed, ``cross_entropy``.
        output: What the user got back, detached from it: what is done to it in place does not show here.
        entries: Loss entries, attached to the graph until the batch axis is known; any shape. For a reduced loss they
            are weighted as in it.
        counts: Each entry's weight in the mean (class weights, 0 for ignored targets), shape of ``entries``.
        total: What the user's own reduction is of the mean: 1 for a mean, ``Σ counts`` for a sum.
        reduced: Whether ``output`` is a single number; otherwise the gradient that arrives decides the weights.
        arrangement: How the entries belong to samples; ``None`` where no batch was found.
        superseded: Whether individual losses of the user's own took its place.
        origin: Where it hangs in the graph, as long as somebody may want second derivatives.
        node: What it came out of, until the backward pass has come there.
        graph: What its entries came out of, until it is known where its samples are.
        way: Stays the same as long as the entries come about in the same way.
        guessing: What an entry is, and so their mean, where all classes are held for equally likely; ``None`` where
            there are no classes.
    """

    name: str
    output: Tensor
    entries: Tensor
    counts: Tensor
    total: float
    reduced: bool
    arrangement: Arrangement | None = None
    superseded: bool = False
    problem: str | None = None
    arrived: Tensor | None = field(default=None, repr=False)
    origin: Origin | None = field(default=None, repr=False)
    guessing: float | None = None
    node: Node | None = field(default=None, repr=False)
    graph: Graph | None = field(default=None, repr=False)
    way: int = 0
    # Asked for again and again, by every parameter and every instrument.
    _amount: float | None = field(default=None, init=False, repr=False)
    _scale: float | None = field(default=None, init=False, repr=False)

    @property
    def summed(self) -> bool:
        """Whether the user's own reduction was a plain sum."""
        if self.reduced:
            return self.total != 1.0
        assert self.arrived is not None
        counted = self.arrived[self.arrived != 0]
        return counted.numel() > 1 and bool((counted == 1).all())

    def look_behind(self) -> None:
        """Walks through the graph behind its entries: once, for all who ask."""
        if self.entries.grad_fn is not None:
            self.graph = Graph(self.entries.grad_fn)
            self.way = self.graph.fingerprint

    def arrive(self, gradient: Tensor) -> None:
        """The backward pass has come to the loss; from here on nobody needs its place in the graph."""
        self.arrived, self.origin, self.node = gradient, None, None

    def amount(self) -> float:
        """What this loss adds to the number that ``backward`` was called on."""
        if self._amount is None:
            assert self.arrived is not None
            values = self.output if self.reduced else self.entries
            self._amount = float((self.arrived.double() * values.double()).sum())
        return self._amount

    def scale(self) -> float:
        """The gradient that arrived, for the mean: what the loss was multiplied with, times ``total``."""
        if self._scale is None:
            assert self.arrived is not None
            self._scale = self.scale_of(self.arrived)
        return self._scale

    def scale_of(self, arriving: Tensor) -> float:
        """As :meth:`scale`, for a gradient that is about to arrive."""
        return float(arriving.double().sum()) * (self.total if self.reduced else 1.0)

    def unit(self) -> float:
        """The gradient that arrived, for the number that the user would name: a sum where it was a sum."""
        if self.reduced:
            return self.scale() / self.total if self.total else 0.0
        return 1.0 if self.summed else self.scale()
