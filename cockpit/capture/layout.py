"""Batch axes of all tensors of a step: measured once, remembered as long as no shape changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from cockpit.capture.batch_axis import Finding, find_batch_axis, kept_apart_otherwise
from cockpit.capture.batch_size import Axes
from cockpit.capture.calls import ModuleCall
from cockpit.capture.graph import before_checkpoints, mixes_samples
from cockpit.capture.losses import Arrangement, LossCall
from cockpit.capture.unavailable import Unavailable
from cockpit.capture.undisturbed import undisturbed

if TYPE_CHECKING:
    from cockpit.capture.graph_walk import Plan

Place: TypeAlias = "ModuleCall | GradientEdge"
"""Where gradients are looked at: at a call's output, or at any edge of the graph."""

_FURTHER_SAMPLES = 8
"""How many more samples are asked where the gradient of the first ones ends in dead units."""


@dataclass(frozen=True)
class _Way:
    """One way in which loss entries may be dealt out.

    Args:
        leading: Whether the batch size is the length of the first axis of the first input.
        likely: Whether it may be true even if some tensor has no batch axis.
    """

    arrangement: Arrangement
    leading: bool = False
    likely: bool = False


@dataclass
class Layout:
    """How samples lie in one step's tensors, how often that was looked up, and what is left to find out.

    Args:
        arrangement: How the loss entries are dealt out.
        findings: One for each module call.
        asked: How often it was looked up.
        plan: Where parameters that no module call serves are to be read; ``None`` if that was not found out yet.
    """

    arrangement: Arrangement | None
    findings: list[Finding] = field(default_factory=list)
    asked: int = 0
    plan: Plan | None = None

    @property
    def mixed(self) -> tuple[int, int]:
        """How many tensors have no batch axis, and in how many samples reach each other."""
        reached = [finding for finding in self.findings if finding.reached]
        coupled = sum(finding.axis is not None and finding.axis.coupled for finding in reached)
        return sum(finding.axis is None for finding in reached), coupled

    def one_to_one(self, calls: Sequence[ModuleCall]) -> bool:
        """Whether some tensor's batch axis holds each sample once; if none was reached, there is nothing to doubt."""
        axes = [(f.axis, call) for f, call in zip(self.findings, calls, strict=True) if f.axis is not None]
        samples = 0 if self.arrangement is None else self.arrangement.samples
        return not axes or any(call.output_shape[axis.dim] == samples for axis, call in axes)

    def due(self) -> bool:
        """Whether to measure anew: where nothing arrived, units may have come alive. Ever more rarely, since most often
        such a call is simply not part of the loss; but at once if it was like that everywhere."""
        self.asked += 1
        reached = [finding.reached for finding in self.findings]
        complete = self.arrangement is not None and all(reached) and (self.plan is None or self.plan.complete)
        dead = self.arrangement is not None and not any(reached)
        return not complete and (dead or self.asked & (self.asked - 1) == 0)


class Layouts:
    """Where the samples are, by the shapes of a step."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Layout] = {}
        self._cotangents: dict[int, Tensor] | None = None

    @property
    def measuring(self) -> bool:
        """Whether the backward pass that is running is ours, not the user's."""
        return self._cotangents is not None

    def cotangent(self, call: ModuleCall, delta: Tensor) -> None:
        """Takes an output gradient of a measuring pass."""
        assert self._cotangents is not None
        self._cotangents[id(call)] = delta

    def resolve(
        self,
        loss: LossCall,
        calls: Sequence[ModuleCall],
        inputs: Sequence[Axes],
        model: nn.Module,
    ) -> Layout:
        """Gives the loss its arrangement, and every call that has no batch axis yet its own, or the reason why not.

        Args:
            loss: A loss call, its entries attached to the graph.
            calls: Module calls that a backward pass may still walk through.
            inputs: Sizes of what each call of the model was given, the latest first.
            model: The model.

        Returns:
            What is remembered of such steps.
        """
        own = loss.arrangement
        key = (*inputs, own, tuple(loss.entries.shape), *(call.signature() for call in calls))
        layout = self._known.get(key)
        if layout is None or layout.due():
            ways = _ways(inputs, loss.entries.shape) if own is None else [_Way(own, leading=True, likely=True)]
            with undisturbed(model):
                measured = self._measure(loss, ways, calls, 0 if layout is None else layout.asked)
            measured.asked = 1 if layout is None else layout.asked
            layout = self._known[key] = measured
        loss.arrangement = layout.arrangement
        for call, finding in zip(calls, layout.findings, strict=layout.arrangement is not None):
            if call.axis is None:
                call.axis, call.problem, call.reached = finding.axis, finding.problem, finding.reached
        return layout

    def find(self, loss: LossCall, model: nn.Module, edges: Sequence[GradientEdge]) -> list[Finding]:
        """Looks for batch axes elsewhere in the graph.

        Args:
            loss: A loss call that has its arrangement, its entries attached to the graph.
            model: The model.
            edges: Where to look.
        """
        assert loss.arrangement is not None
        with undisturbed(model):
            return self._try(loss, loss.arrangement, edges, 0)

    def _measure(self, loss: LossCall, ways: Sequence[_Way], calls: Sequence[ModuleCall], turn: int) -> Layout:
        """Tries the ways to deal out the loss entries; the first under which samples keep apart is taken.

        Samples keep apart in groups as well. They were grouped if no tensor has just as many entries along its batch
        axis as there are groups; then a way that finds such a tensor is better.
        """
        apart: list[Layout] = []
        best: Layout | None = None
        for way in ways:
            layout = Layout(way.arrangement, self._try(loss, way.arrangement, calls, turn))
            one_to_one = layout.one_to_one(calls)
            if not (way.leading or one_to_one) or (layout.mixed[0] and not way.likely):
                continue
            if any(finding.misdealt for finding in layout.findings):
                continue
            if best is None or layout.mixed < best.mixed:
                best = layout
            if layout.mixed == (0, 0):
                if one_to_one:
                    return layout
                apart.append(layout)
        return apart[0] if apart else best or Layout(None)

    def _try(self, loss: LossCall, arrangement: Arrangement, places: Sequence[Place], turn: int) -> list[Finding]:
        counted = arrangement.deal(loss.counts).sum(1).nonzero().flatten().tolist()
        cotangents: list[list[tuple[int, Tensor]]] = [[] for _ in places]
        enough = min(2, len(counted))
        try:
            for order, n in enumerate(_spread(counted, turn)):
                if order >= 3 and all(len(found) >= enough for found in cotangents):
                    break
                for found, delta in zip(cotangents, self._gradients(loss, arrangement, [n], places), strict=True):
                    if delta is not None and 0 < float(delta.double().abs().sum()) < math.inf:
                        found.append((n, delta))
        except Unavailable as reason:
            return [Finding(problem=str(reason), reached=True) for _ in places]
        findings = [_finding(f, arrangement.samples) if f and len(f) >= enough else Finding() for f in cotangents]
        if any(f.axis is not None and f.axis.coupled for f in findings) and not mixes_samples(loss.entries.grad_fn):
            findings = [_scattered(finding) for finding in findings]
        if arrangement.axis is None and not any(finding.misdealt for finding in findings):
            self._look_at_all(loss, arrangement, places, findings)
        return findings

    def _look_at_all(
        self, loss: LossCall, arrangement: Arrangement, places: Sequence[Place], findings: Sequence[Finding]
    ) -> None:
        """Every other sample together, and then the others: entries that belong to a neighbour show up there."""
        for parity in (0, 1):
            members = list(range(parity, arrangement.samples, 2))
            deltas = self._gradients(loss, arrangement, members, places) if members else [None] * len(places)
            for delta, finding in zip(deltas, findings, strict=True):
                if finding.axis is not None and not finding.axis.coupled and delta is not None:
                    others = finding.axis.samples_first(delta, arrangement.samples)[1 - parity :: 2]
                    finding.misdealt |= bool(others.any())

    def _gradients(
        self, loss: LossCall, arrangement: Arrangement, members: Sequence[int], places: Sequence[Place]
    ) -> list[Tensor | None]:
        """Gradients of some samples' losses alone, by place; those of calls come by in the output's own layout."""
        self._cotangents = {}
        edges = [place.edge if isinstance(place, ModuleCall) else place for place in places]
        try:
            with torch.enable_grad():
                own = arrangement.deal(loss.entries)[list(members)].sum()
                arrived = _differentiated(own, edges) if own.requires_grad else [None] * len(edges)
            calls = [self._cotangents.get(id(place)) for place in places]
            return [
                call if isinstance(place, ModuleCall) else gradient
                for place, call, gradient in zip(places, calls, arrived, strict=True)
            ]
        except Exception as error:  # a graph that may be walked only by backward, or a hook of the user's
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise Unavailable(f"the gradient of a single sample's loss cannot be taken: {reason}") from error
        finally:
            self._cotangents = None


def _differentiated(own: Tensor, edges: Sequence[GradientEdge | None]) -> list[Tensor | None]:
    """Gradients at those of the edges that can be reached, ``None`` at the others."""
    # The factor keeps float16 cotangents from underflowing; only where they are not zero matters.
    scale = torch.full_like(own, 256.0)
    known = [edge for edge in edges if edge is not None]
    try:
        arrived = torch.autograd.grad(own, known, scale, retain_graph=True, allow_unused=True) if known else ()
    except RuntimeError:
        within = before_checkpoints(own.grad_fn)
        known = [edge for edge in known if edge.node in within]
        if not known or len(known) == sum(edge is not None for edge in edges):
            raise
        arrived = torch.autograd.grad(own, known, scale, retain_graph=True, allow_unused=True)
    found = dict(zip(known, arrived, strict=True))
    return [None if edge is None else found.get(edge) for edge in edges]


def _spread(counted: Sequence[int], turn: int) -> Iterator[int]:
    """Samples to ask: three far apart, then a few more, far apart too; others at every turn."""
    if not counted:
        return
    last, N = len(counted) - 1, len(counted)
    places = [last, N // 2, N // 4, *(last * k // _FURTHER_SAMPLES for k in range(_FURTHER_SAMPLES))]
    yield from dict.fromkeys(counted[(place + turn) % N] for place in places)


def _ways(inputs: Sequence[Axes], shape: torch.Size) -> list[_Way]:
    """From likely to unlikely: a batch axis of the entries' own; samples and positions on one axis, in the input's
    order; and in the other order."""
    own = [
        _Way(Arrangement(axes[place], axis), leading=place == position == 0, likely=True)
        for place in (0, 1)
        for tensors in inputs
        for position, axes in enumerate(tensors)
        for axis, length in enumerate(shape)
        if len(axes) > place and length == axes[place]
    ]
    first = [tensors[0] for tensors in inputs if tensors]
    # Positions first: then there are about as many of them as the input has, or another axis is taken for the batch.
    second = [axes[1] for axes in first if len(axes) > 1 and 2 * shape.numel() >= axes[0] * axes[1]]
    flat = [_Way(Arrangement(axes[0], order="block"), leading=True, likely=True) for axes in first]
    flat += [_Way(Arrangement(size, order="stride")) for size in second]
    flat += [_Way(Arrangement(axes[0], order="stride"), leading=True) for axes in first]
    flat += [_Way(Arrangement(size, order="block")) for size in second]
    fitting: dict[Arrangement, _Way] = {}
    for way in (*own, *flat):
        if way.arrangement.fits(shape):
            fitting.setdefault(way.arrangement, way)
    return list(fitting.values())


def _scattered(finding: Finding) -> Finding:
    """What was taken for samples that reach each other, where nothing could make them do so.

    In the data of packed sequences most of a sample lies where it would lie in a tensor with a batch axis.
    """
    if finding.axis is None or not finding.axis.coupled:
        return finding
    return Finding(problem="samples lie scattered over its output", reached=True)


def _finding(cotangents: list[tuple[int, Tensor]], samples: int) -> Finding:
    try:
        return Finding(find_batch_axis(cotangents, samples), reached=True)
    except Unavailable as reason:
        return Finding(problem=str(reason), reached=True, misdealt=kept_apart_otherwise(cotangents, samples))
