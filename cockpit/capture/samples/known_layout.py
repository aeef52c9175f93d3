"""What is remembered of where samples are in the tensors of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cockpit.capture.batch_axis import Finding
from cockpit.capture.graph.moved_rows import RowMoves
from cockpit.capture.hooks.calls import ModuleCall
from cockpit.capture.losses.loss_call import Arrangement

if TYPE_CHECKING:
    from cockpit.capture.walk.graph_walk import Plan

_NOT_LOOKED_FOR = (
    "a checkpoint with use_reentrant=True called it in a way that it did not when the batch axis was looked for"
)
_ELSEWHERE = "its samples do not lie in the order of their losses, because of '{}' or the like"
_COUPLED = "data decide in '{}' where its rows go, and samples that reach each other do not show whose they are"


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
        moved: How rows were moved when samples were last seen to be in their places.
        lost: How often they were not.
    """

    arrangement: Arrangement | None
    findings: list[Finding] = field(default_factory=list)
    asked: int = 0
    plan: Plan | None = None
    hidden: dict[tuple[Any, ...], Finding] = field(default_factory=dict)
    leaves: Mapping[int, int] = field(default_factory=dict)
    closed: str | None = None
    outdated: bool = False
    moved: int | None = None
    lost: int = 0

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

    def settle(self, moves: RowMoves) -> None:
        """Takes back axes of tensors in which it is not known, or known to be otherwise, where each sample is.

        Args:
            moves: Of the rows behind the loss.
        """
        findings = (*self.findings, *self.hidden.values())
        for finding in findings:
            if finding.axis is None:
                continue
            if finding.misdealt:
                finding.axis, finding.problem = None, _ELSEWHERE.format(moves.culprit)
            elif finding.axis.coupled and moves.below_mixing:
                finding.axis, finding.problem = None, _COUPLED.format(moves.culprit)

    def due(self) -> bool:
        """Whether to measure anew: where nothing arrived, units may have come alive. Ever more rarely, since most often
        such a call is simply not part of the loss; but at once if it was like that everywhere."""
        self.asked += 1
        reached = [finding.reached for finding in (*self.findings, *self.hidden.values())]
        complete = self.arrangement is not None and all(reached) and (self.plan is None or self.plan.complete)
        dead = self.arrangement is not None and not any(reached)
        return self.outdated or (not complete and (dead or self.asked & (self.asked - 1) == 0))


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
