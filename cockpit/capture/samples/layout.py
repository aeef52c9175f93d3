"""Batch axes of all tensors of a step: measured once, remembered while no shape changes and no row moves."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from cockpit.capture.batch_axis import Finding, candidates
from cockpit.capture.batch_size import Axes
from cockpit.capture.graph.moved_rows import RowMoves
from cockpit.capture.hooks.calls import ModuleCall
from cockpit.capture.hooks.undisturbed import undisturbed
from cockpit.capture.losses.loss_call import Arrangement, LossCall
from cockpit.capture.samples.apart import changed_by_company, reached_by_strangers
from cockpit.capture.samples.findings import as_their_likes, by_signature, finding_of, scattered
from cockpit.capture.samples.known_layout import Layout
from cockpit.capture.samples.reentrant import Recording
from cockpit.capture.samples.single_samples import Arrived, Hidden, Place, SingleSamples, spread
from cockpit.capture.samples.ways import is_doubtful, order_is_known, ways
from cockpit.capture.unavailable import Unavailable

_TOGETHER = (
    "a hook on the output of a module changes gradients of several samples together, so that none is a sample's own"
)
_MOVED = (
    "the batch size could not be found in what the model and its modules were called with; '{}' may be why: it can put "
    "samples in other places at every step. Hand the individual losses over with step.losses(...)"
)


class Layouts:
    """Where the samples are, by the shapes of a step."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Layout] = {}
        self._single_samples = SingleSamples()
        self._hooked = False

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
        hooked = [call.stand_last() for call in calls]
        self._hooked = any(hooked)
        shape = tuple(loss.entries.shape)
        key = (*inputs, loss.arrangement, shape, self._hooked, *(call.signature() for call in calls))
        layout, moves = self._known.get(key), RowMoves.of(loss.graph)
        if layout is None or layout.due():
            layout = self._known[key] = self._measure(loss, inputs, calls, moves, layout, model, recording)
        elif layout.arrangement is not None and (moves.key is None or moves.key != layout.moved):
            layout = self._look_again(key, loss, inputs, calls, moves, model, recording)
        if layout.arrangement is None and loss.problem is None and moves.culprit is not None:
            loss.problem = _MOVED.format(moves.culprit)
        loss.arrangement = layout.arrangement
        for call, finding in zip(calls, layout.findings, strict=layout.arrangement is not None):
            if call.axis is None:
                call.axis, call.problem, call.reached = finding.axis, finding.problem, finding.reached
                call.together = finding.together
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
        moves, samples = RowMoves.of(loss.graph), loss.arrangement.samples
        with undisturbed(model):
            layout = self._try(loss, loss.arrangement, edges, 0, recording, moves)
        layout.settle(moves)
        for finding, edge in zip(layout.findings, edges, strict=True):
            shape = edge.node._input_metadata[edge.output_nr].shape
            if finding.possible == () or not any(candidates(shape, samples)):
                finding.reached = True  # whoever comes by, no axis of its own tells samples apart
        return layout.findings

    def _look_again(
        self,
        key: tuple[Any, ...],
        loss: LossCall,
        inputs: Sequence[Axes],
        calls: Sequence[ModuleCall],
        moves: RowMoves,
        model: nn.Module,
        recording: Recording,
    ) -> Layout:
        """Rows are moved in another way than when samples were last seen in their places: whether they still are.

        Where they are not, nothing is known of this step; ever more rarely they are looked for anew.
        """
        layout = self._known[key]
        with undisturbed(model):
            confirmed = self._confirmed(layout, loss, calls, recording)
        if confirmed:
            # Where parameters are read besides modules is found out anew.
            layout.moved, layout.plan = moves.key, None
            layout.settle(moves)
            return layout
        layout.lost += 1
        if layout.hidden or layout.lost & (layout.lost - 1) == 0:
            measured = self._measure(loss, inputs, calls, moves, layout, model, recording)
            if measured.arrangement is not None:
                self._known[key] = measured
                return measured
        return Layout(None)

    def _confirmed(self, layout: Layout, loss: LossCall, calls: Sequence[ModuleCall], recording: Recording) -> bool:
        assert layout.arrangement is not None
        if layout.hidden:  # known by their signatures, which do not tell them apart
            return False
        samples = layout.arrangement.samples
        take = functools.partial(
            self._single_samples.gradients,
            loss,
            layout.arrangement,
            range(samples),
            places=calls,
            recording=recording,
        )
        try:
            return not reached_by_strangers(take, samples, dict(enumerate(layout.findings)))
        except Unavailable:  # the way in which it is measured says why
            return False

    def _measure(
        self,
        loss: LossCall,
        inputs: Sequence[Axes],
        calls: Sequence[ModuleCall],
        moves: RowMoves,
        earlier: Layout | None,
        model: nn.Module,
        recording: Recording,
    ) -> Layout:
        """A layout found out from nothing; what an earlier one knows of reentrant checkpoints is kept."""
        turn = 0 if earlier is None else earlier.asked
        with undisturbed(model):
            if loss.arrangement is None:
                measured = self._first_apart(loss, inputs, calls, turn, recording, moves)
            else:
                measured = self._try(loss, loss.arrangement, calls, turn, recording, moves)
        measured.settle(moves)
        if measured.arrangement is not None:
            as_their_likes([[finding] for finding in measured.findings], [call.signature() for call in calls])
        measured.asked, measured.moved = max(1, turn), moves.key
        if earlier is not None and earlier.arrangement == measured.arrangement:
            # Checkpoints that take turns: what one of them hid is still known when it comes again.
            measured.hidden = earlier.hidden | measured.hidden
            measured.lost = earlier.lost
        return measured

    def _first_apart(
        self,
        loss: LossCall,
        inputs: Sequence[Axes],
        calls: Sequence[ModuleCall],
        turn: int,
        recording: Recording,
        moves: RowMoves,
    ) -> Layout:
        """Tries the ways to deal out the loss entries; the first under which samples keep apart is taken.

        Samples keep apart in groups as well. They were grouped if no tensor has just as many entries along its batch
        axis as there are groups; then a way that finds such a tensor is better.
        """
        apart: list[Layout] = []
        best: Layout | None = None
        for way in ways(inputs, loss.entries.shape):
            layout = self._try(loss, way.arrangement, calls, turn, recording, moves)
            one_to_one = layout.one_to_one(calls)
            if not (way.leading or one_to_one) or (layout.mixed[0] and not way.likely):
                continue
            if any(finding.misdealt for finding in (*layout.findings, *layout.hidden.values())):
                continue
            if way.contradicted(calls, layout.findings) or is_doubtful(way.arrangement, moves, calls, layout.findings):
                continue
            if not one_to_one and not order_is_known(way.arrangement, inputs, calls, layout.findings):
                continue
            if best is None or layout.mixed < best.mixed:
                best = layout
            if layout.mixed == (0, 0):
                if one_to_one:
                    return layout
                apart.append(layout)
        return apart[0] if apart else best or Layout(None)

    def _try(
        self,
        loss: LossCall,
        arrangement: Arrangement,
        places: Sequence[Place],
        turn: int,
        recording: Recording,
        moves: RowMoves,
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
        silence = None if arrived is None else arrived.closed
        findings = {key: finding_of(found, arrangement.samples, enough, silence) for key, found in cotangents.items()}
        mixes = arrived is None or arrived.mixes
        if self._hooked and arrived is not None:
            among = [key for key, f in findings.items() if f.axis is not None and not (mixes and f.axis.coupled)]
            for key in changed_by_company(take, n, float(loss.counts.sum()), arrangement.samples, among):
                findings[key] = Finding(problem=_TOGETHER, reached=True, together=True)
        if not mixes:
            findings = {key: scattered(finding) for key, finding in findings.items()}
        doubtful = arrangement.axis is None or moves.any
        if doubtful and not any(finding.misdealt for finding in findings.values()):
            everybody = functools.partial(take, range(arrangement.samples))
            for key in reached_by_strangers(everybody, arrangement.samples, findings):
                findings[key].misdealt = True
        layout = Layout(arrangement, [findings[i] for i in range(len(places))])
        if arrived is not None:
            layout.hidden = by_signature({key: f for key, f in findings.items() if not isinstance(key, int)})
            layout.leaves, layout.closed = arrived.leaves, arrived.closed
        return layout
