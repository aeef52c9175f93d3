"""Batch axes of all tensors of a step: measured once, remembered as long as no shape changes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from cockpit.capture.batch_axis import Finding, find_batch_axis, kept_apart_otherwise
from cockpit.capture.batch_size import Axes
from cockpit.capture.calls import ModuleCall
from cockpit.capture.losses import Arrangement, LossCall
from cockpit.capture.reentrant import Recording
from cockpit.capture.single_samples import Arrived, Hidden, Place, SingleSamples, spread
from cockpit.capture.unavailable import Unavailable
from cockpit.capture.undisturbed import undisturbed

if TYPE_CHECKING:
    from cockpit.capture.graph_walk import Plan

_NOT_LOOKED_FOR = (
    "a checkpoint with use_reentrant=True called it in a way that it did not when the batch axis was looked for"
)
_DIFFERENT = "checkpoints with use_reentrant=True call it several times, and samples do not lie in the same places"


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
        hidden: Of calls that reentrant checkpoints make again, by signature.
        leaves: In how many reentrant checkpoints a tensor is a leaf, by its identity.
        closed: Why nothing is known of what is in them, if they could not be looked into.
        outdated: Whether calls were made again that were not looked for.
    """

    arrangement: Arrangement | None
    findings: list[Finding] = field(default_factory=list)
    asked: int = 0
    plan: Plan | None = None
    hidden: dict[tuple[Any, ...], Finding] = field(default_factory=dict)
    leaves: Mapping[int, int] = field(default_factory=dict)
    closed: str | None = None
    outdated: bool = False

    @property
    def mixed(self) -> tuple[int, int]:
        """How many tensors have no batch axis, and in how many samples reach each other."""
        reached = [finding for finding in (*self.findings, *self.hidden.values()) if finding.reached]
        coupled = sum(finding.axis is not None and finding.axis.coupled for finding in reached)
        return sum(finding.axis is None for finding in reached), coupled

    def one_to_one(self, calls: Sequence[ModuleCall]) -> bool:
        """Whether some tensor's batch axis holds each sample once; if none was reached, there is nothing to doubt."""
        shapes = [call.output_shape for call in calls] + [shape for _, _, shape, _ in self.hidden]
        findings = (*self.findings, *self.hidden.values())
        sizes = [shape[f.axis.dim] for f, shape in zip(findings, shapes, strict=True) if f.axis is not None]
        return not sizes or self.arrangement is None or self.arrangement.samples in sizes

    def due(self) -> bool:
        """Whether to measure anew: where nothing arrived, units may have come alive. Ever more rarely, since most often
        such a call is simply not part of the loss; but at once if it was like that everywhere."""
        self.asked += 1
        reached = [finding.reached for finding in (*self.findings, *self.hidden.values())]
        complete = self.arrangement is not None and all(reached) and (self.plan is None or self.plan.complete)
        dead = self.arrangement is not None and not any(reached)
        return self.outdated or (not complete and (dead or self.asked & (self.asked - 1) == 0))


class Layouts:
    """Where the samples are, by the shapes of a step."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Layout] = {}
        self._single_samples = SingleSamples()

    @property
    def measuring(self) -> bool:
        """Whether the backward pass that is running is ours, not the user's."""
        return self._single_samples.measuring

    def cotangent(self, call: ModuleCall, delta: Tensor) -> None:
        """Takes an output gradient of a measuring pass."""
        self._single_samples.cotangent(call, delta)

    def resolve(
        self,
        loss: LossCall,
        calls: Sequence[ModuleCall],
        inputs: Sequence[Axes],
        model: nn.Module,
        recording: Recording,
    ) -> Layout:
        """Gives the loss its arrangement, and every call that has no batch axis yet its own, or the reason why not.

        Args:
            loss: A loss call, its entries attached to the graph.
            calls: Module calls that a backward pass may still walk through.
            inputs: Sizes of what each call of the model was given, the latest first.
            model: The model.
            recording: Records the calls of modules that reentrant checkpoints make again.

        Returns:
            What is remembered of such steps.
        """
        own = loss.arrangement
        key = (*inputs, own, tuple(loss.entries.shape), *(call.signature() for call in calls))
        layout = self._known.get(key)
        if layout is None or layout.due():
            ways = _ways(inputs, loss.entries.shape) if own is None else [_Way(own, leading=True, likely=True)]
            with undisturbed(model):
                measured = self._measure(loss, ways, calls, 0 if layout is None else layout.asked, recording)
            measured.asked = 1 if layout is None else layout.asked
            if layout is not None and layout.arrangement == measured.arrangement:
                # Checkpoints that take turns: what one of them hid is still known when it comes again.
                measured.hidden = layout.hidden | measured.hidden
            layout = self._known[key] = measured
        loss.arrangement = layout.arrangement
        for call, finding in zip(calls, layout.findings, strict=layout.arrangement is not None):
            if call.axis is None:
                call.axis, call.problem, call.reached = finding.axis, finding.problem, finding.reached
        return layout

    def find(
        self, loss: LossCall, model: nn.Module, recording: Recording, edges: Sequence[GradientEdge]
    ) -> list[Finding]:
        """Looks for batch axes elsewhere in the graph.

        Args:
            loss: A loss call that has its arrangement, its entries attached to the graph.
            model: The model.
            recording: Records the calls of modules that reentrant checkpoints make again.
            edges: Where to look.
        """
        assert loss.arrangement is not None
        with undisturbed(model):
            return self._try(loss, loss.arrangement, edges, 0, recording).findings

    def _measure(
        self, loss: LossCall, ways: Sequence[_Way], calls: Sequence[ModuleCall], turn: int, recording: Recording
    ) -> Layout:
        """Tries the ways to deal out the loss entries; the first under which samples keep apart is taken.

        Samples keep apart in groups as well. They were grouped if no tensor has just as many entries along its batch
        axis as there are groups; then a way that finds such a tensor is better.
        """
        apart: list[Layout] = []
        best: Layout | None = None
        for way in ways:
            layout = self._try(loss, way.arrangement, calls, turn, recording)
            one_to_one = layout.one_to_one(calls)
            if not (way.leading or one_to_one) or (layout.mixed[0] and not way.likely):
                continue
            if any(finding.misdealt for finding in (*layout.findings, *layout.hidden.values())):
                continue
            if best is None or layout.mixed < best.mixed:
                best = layout
            if layout.mixed == (0, 0):
                if one_to_one:
                    return layout
                apart.append(layout)
        return apart[0] if apart else best or Layout(None)

    def _try(
        self, loss: LossCall, arrangement: Arrangement, places: Sequence[Place], turn: int, recording: Recording
    ) -> Layout:
        """What single samples' gradients tell if the loss entries are dealt out in one way."""
        take = functools.partial(self._single_samples.gradients, loss, arrangement, places=places, recording=recording)
        counted = arrangement.deal(loss.counts).sum(1).nonzero().flatten().tolist()
        cotangents: dict[int | Hidden, list[tuple[int, Tensor]]] = {i: [] for i in range(len(places))}
        enough = min(2, len(counted))
        arrived: Arrived | None = None
        try:
            for order, n in enumerate(spread(counted, turn)):
                if order >= 3 and all(len(found) >= enough for found in cotangents.values()):
                    break
                arrived = take([n])
                for key, delta in arrived.everywhere():
                    found = cotangents.setdefault(key, [])
                    if delta is not None and 0 < float(delta.double().abs().sum()) < math.inf:
                        found.append((n, delta))
        except Unavailable as reason:
            problem = str(reason)
            return Layout(arrangement, [Finding(problem=problem, reached=True) for _ in places], closed=problem)
        nothing = Finding() if arrived is None or arrived.closed is None else Finding(problem=arrived.closed)
        findings = {
            key: _finding(found, arrangement.samples) if found and len(found) >= enough else replace(nothing)
            for key, found in cotangents.items()
        }
        coupled = any(finding.axis is not None and finding.axis.coupled for finding in findings.values())
        if coupled and arrived is not None and not arrived.mixes:
            findings = {key: _scattered(finding) for key, finding in findings.items()}
        if arrangement.axis is None and not any(finding.misdealt for finding in findings.values()):
            _look_at_all(take, arrangement.samples, findings)
        layout = Layout(arrangement, [findings[i] for i in range(len(places))])
        if arrived is not None:
            layout.hidden = _by_signature({key: f for key, f in findings.items() if not isinstance(key, int)})
            layout.leaves, layout.closed = arrived.leaves, arrived.closed
        return layout


def place_again(call: ModuleCall, layouts: Sequence[Layout]) -> None:
    """Gives a call that a reentrant checkpoint makes again its batch axis, or the reason why it has none.

    Args:
        call: The call.
        layouts: Of the losses that the backward pass may have started from.
    """
    signature, finding = call.signature(), Finding(problem=_NOT_LOOKED_FOR)
    known = [layout.hidden[signature] for layout in layouts if signature in layout.hidden]
    if known:
        finding = next((f for f in known if f.axis is not None), known[0])
    for layout in layouts if not known else ():
        layout.outdated = layout.closed is None and layout.arrangement is not None
        finding.problem = layout.closed or finding.problem
    call.axis, call.problem, call.reached = finding.axis, finding.problem, finding.reached


def _look_at_all(
    take: Callable[[Sequence[int]], Arrived], samples: int, findings: Mapping[int | Hidden, Finding]
) -> None:
    """Every other sample together, and then the others: entries that belong to a neighbour show up there."""
    for parity in (0, 1):
        members = list(range(parity, samples, 2))
        for key, delta in take(members).everywhere() if members else ():
            finding = findings.get(key)
            if finding is not None and finding.axis is not None and not finding.axis.coupled and delta is not None:
                others = finding.axis.samples_first(delta, samples)[1 - parity :: 2]
                finding.misdealt |= bool(others.any())


def _by_signature(findings: Mapping[Hidden, Finding]) -> dict[tuple[Any, ...], Finding]:
    """One for all calls that look the same: in the backward pass they are not told apart."""
    merged: dict[tuple[Any, ...], Finding] = {}
    for (signature, _), finding in findings.items():
        known = merged.get(signature)
        if known is None or not known.reached:
            merged[signature] = finding
        elif finding.reached and (finding.axis != known.axis or finding.misdealt):
            merged[signature] = Finding(problem=_DIFFERENT, reached=True, misdealt=known.misdealt or finding.misdealt)
    return merged


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
