"""Slopes of the individual losses along the steps before and after them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.individual.workspace import Workspace
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import Movement, working
from cockpit.probes.adding_up import lowest_precision, penalised
from cockpit.probes.gradient_dots import dot
from cockpit.probes.per_sample_moments import looks_of
from cockpit.probes.probe import Collector, Probe, Reduction, Surroundings, reduce
from cockpit.probes.row_sums import RowSums

UNCOVERED_STEP = 0.01
"""Share of ``‖s‖²`` that may lie in parameters without individual gradients."""


@dataclass(frozen=True)
class StepSlopes:
    """Directional derivatives of the individual losses of step ``t``; float64, on the host, unscaled.

    Args:
        start: ``⟨g_n, s(t)⟩``, along the step that begins here; ``None`` if nothing moved, or it was not wanted.
            Shape ``[N]``.
        end: ``⟨g_n, s(t−1)⟩``, along the step that ended here; ``None`` if that was not tracked. Shape ``[N]``.
        length: ``‖s(t)‖``.
    """

    start: Tensor | None
    end: Tensor | None
    length: float


@dataclass(frozen=True)
class Slopes(Probe[StepSlopes]):
    """Contracts individual gradients with measured steps.

    The step that begins at ``t`` is known only after the optimizer made it, so each layer's input and output gradient
    are kept until then, or its individual gradients where these are smaller or fit into the workspace. Nothing is kept
    on a step that only ends a window.

    Args:
        start: Whether the slope along the step that begins is wanted; without it nothing is ever kept.
    """

    start: bool = True

    individual: ClassVar[bool] = True
    movement: ClassVar[bool] = True
    sums_up: ClassVar[bool] = True

    def collector(self, surroundings: Surroundings) -> Collector[StepSlopes]:
        """Begins a step."""
        begins = surroundings.begins_window and surroundings.checked
        return _SlopesCollector(surroundings, self.start and begins)


class _DotsReduction(Reduction):
    """``⟨G_n, V⟩`` for one direction, if there is one.

    Args:
        gradients: The individual gradients.
        direction: ``V``.
        keep: Whether the individual gradients are needed once more, until :meth:`release`.
        rows_are_formed: Whether others need the rows, where norms do: they are then the cheaper way here, too.
    """

    def __init__(
        self, gradients: SampleGradients, direction: Tensor | None, keep: bool = False, rows_are_formed: bool = True
    ) -> None:
        self._gradients: SampleGradients | None = gradients
        self._direction, self._keep = direction, keep
        self._from_rows = rows_are_formed and gradients.materialises
        self.dots: Tensor | None = None

    @property
    def gradients(self) -> SampleGradients:
        assert self._gradients is not None
        return self._gradients

    def closed(self) -> bool:
        if self._direction is None:
            return True
        if not self._from_rows:
            self.dots = self.gradients.dots(self._direction)
        if self.dots is None:
            self.sums = RowSums([self._direction])
        return self.dots is not None

    def finish(self) -> None:
        if self.sums is not None:
            (self.dots,) = self.sums.dots
            self.sums = None
        if not self._keep:
            self.release()

    def release(self) -> None:
        """Forgets the individual gradients; the inner products stay."""
        self._gradients = None


class _SlopesCollector(Collector[StepSlopes]):
    def __init__(self, surroundings: Surroundings, start_wanted: bool) -> None:
        self._surroundings, self._start_wanted = surroundings, start_wanted
        self._reductions: dict[int, _DotsReduction] = {}
        self._passes: list[BackwardPass] = []
        self._sums: dict[int, tuple[Tensor, Tensor]] = {}  # ⟨g, s(t−1)⟩ and ‖g‖², where nobody else looks at the sum
        self._room = surroundings.workspace.to_keep
        self._start: Tensor | None = None
        self._uncovered: list[float] = []
        self._length = 0.0

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        if self._passes:
            return None
        previous = self._surroundings.previous
        direction = None if previous is None else previous[index]
        if direction is None and not self._start_wanted:
            return None
        if self._start_wanted and gradients.materialises:
            self._keep(index, gradients, gradient)
        checked = self._surroundings.checked
        if direction is not None and not checked:
            self._sums[index] = dot(gradient, direction), backward.sq_norm(index, gradient)
        self._reductions[index] = _DotsReduction(gradients, direction, self._start_wanted, rows_are_formed=checked)
        return self._reductions[index]

    def _keep(self, index: int, gradients: SampleGradients, like: Tensor) -> None:
        """Rows that are formed anyway are kept for the step to come, if smaller than their sources or if they fit."""
        like = working(like)
        size = gradients.samples * gradients.numel * like.element_size()
        if size > gradients.nbytes() and size > self._room:
            return
        self._room -= size
        shape = (gradients.samples, gradients.numel)
        gradients.keep(self._surroundings.workspace.take(f"kept {index}", shape, like))

    def end_pass(self, backward: BackwardPass) -> None:
        self._passes.append(backward)
        if len(self._passes) > 1:
            self._reductions.clear()
        elif not self._surroundings.checked:
            self._withhold(lowest_precision(backward))

    def _withhold(self, precision: torch.dtype) -> None:
        """The individual gradients have to add up to the gradient, here along the step, as nobody looks along it."""
        surroundings, looks = self._surroundings, looks_of(self._surroundings)
        found = {i: r.dots for i, r in self._reductions.items() if r.dots is not None and self._served(i)}
        if not found or surroundings.previous is None:
            return
        there, squares = (torch.cat([self._sums[i][at].reshape(1) for i in found]) for at in (0, 1))
        gaps = torch.stack([dots.double().sum() for dots in found.values()]) - there
        # Zero over zero where a parameter did not move.
        along = (gaps.abs() / surroundings.previous.squares[list(found)].sqrt()).nan_to_num(0.0)
        for index, gap, square in zip(found, along.tolist(), squares.tolist(), strict=True):
            parameter, reason = surroundings.table[index].tensor, looks.left_out.get(index)
            if index not in looks.sizes:
                reason = "nothing tells the size of its individual gradients, which were left out in the step before"
            elif looks.off(index, gap * square**0.5, square, parameter, precision):
                reason = penalised(gap / square**0.5)
            if reason is not None:
                surroundings.left_out[index] = reason

    def moved(self, step: Movement) -> None:
        squares = step.squares.tolist()
        self._length = math.sqrt(sum(squares))
        if self._surroundings.previous is not None:
            self._require_whole_step(self._surroundings.previous.squares.tolist())
        if self._start_wanted and len(self._passes) == 1 and self._length > 0:
            self._require_whole_step(squares)
            workspace = self._surroundings.workspace
            self._start = self._sum(
                {i: _dots(r.gradients, step[i], workspace) for i, r in self._reductions.items() if self._served(i)}
            )
        for reduction in self._reductions.values():
            reduction.release()

    def _served(self, index: int) -> bool:
        return index not in self._surroundings.left_out

    def _require_whole_step(self, squares: Sequence[float]) -> None:
        """A slope along part of the step is one along another step. Where no gradient arrived, it is zero."""
        unknown = sum(square for i, square in enumerate(squares) if not self._served(i))
        self._uncovered.append(unknown / sum(squares) if unknown else 0.0)

    def _sum(self, dots: dict[int, Tensor]) -> Tensor | None:
        """Over all parameters, of the unscaled individual losses, on the host."""
        if not dots:
            return None
        raw = torch.stack([d.double() for d in dots.values()]).sum(0)
        return (raw * self._passes[0].factors().to(raw.device)).cpu()

    def result(self) -> StepSlopes:
        if not self._passes:
            raise Unavailable("no backward pass was seen")
        if len(self._passes) > 1:
            raise Unavailable(
                "the batch came in several backward passes, and its individual slopes would need all of them at once"
            )
        self._passes[0].weights()
        if any(share > UNCOVERED_STEP for share in self._uncovered):
            reasons = list(self._surroundings.left_out.values())
            raise Unavailable(
                f"{max(self._uncovered):.0%} of the step lies in parameters without individual gradients: {reasons[0]}"
            )
        dots = {i: r.dots for i, r in self._reductions.items() if r.dots is not None and self._served(i)}
        return StepSlopes(self._start, self._sum(dots), self._length)


def _dots(gradients: SampleGradients, direction: Tensor, workspace: Workspace) -> Tensor:
    dots = gradients.dots(direction)
    if dots is None:
        reduction = _DotsReduction(gradients, direction)
        reduce(gradients, [reduction], workspace)
        dots = reduction.dots
    assert dots is not None
    return dots
