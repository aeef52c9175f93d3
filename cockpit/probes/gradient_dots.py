"""Directions: the mini-batch gradient against the optimizer's step, and against the gradient of the step before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.backward.pooled import pooled_shares
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import Movement, working
from cockpit.probes.probe import Collector, Probe, Surroundings

_PIECE = 1 << 18
"""Terms of a sum in the tensors' own precision; pieces are added in float64."""


@dataclass(frozen=True)
class Dots:
    """Inner products by parameter, of the unscaled mean loss; parameters that no gradient reached are left out.

    Args:
        step: ``⟨s, g⟩``; empty where the parameters did not move, or nobody looks at the step that begins here.
        previous: ``⟨g_t, g_{t−1}⟩``; empty where the step before was not tracked.
    """

    step: Mapping[str, float]
    previous: Mapping[str, float]


@dataclass(frozen=True)
class GradientDots(Probe[Dots]):
    """Keeps a copy of the gradient until the optimizer has stepped, and until the next step has its own.

    By then ``.grad`` may have been clipped or cleared. On a step that only ends a window nothing is copied.
    """

    movement: ClassVar[bool] = True

    def collector(self, surroundings: Surroundings) -> Collector[Dots]:
        """Begins a step."""
        return _DotsCollector(self, surroundings)


class _DotsCollector(Collector[Dots]):
    def __init__(self, probe: GradientDots, surroundings: Surroundings) -> None:
        self._probe, self._surroundings = probe, surroundings
        index, held, self._scale_before = surroundings.memory.pop(probe, (None, {}, 1.0))
        self._before: dict[int, Tensor] = held if index == surroundings.index - 1 else {}
        self._held: dict[int, Tensor] = {}
        self._with_step: dict[int, Tensor] = {}
        self._with_before: dict[int, Tensor] = {}
        self._passes: list[BackwardPass] = []

    def gradient(self, index: int, gradient: Tensor, backward: BackwardPass) -> None:
        if self._passes:
            gradient = backward.accumulated(index, self._surroundings.table[index].tensor, gradient)
        if index in self._before:
            self._with_before[index] = dot(gradient, self._before[index])
        if self._surroundings.begins_window:
            self._hold(index, gradient)

    def _hold(self, index: int, gradient: Tensor) -> None:
        # Two buffers in turn: the step before needs its own a little longer.
        name = f"gradient {index} {self._surroundings.index % 2}"
        self._held[index] = self._surroundings.workspace.take(name, gradient.shape, gradient).copy_(gradient)

    def end_pass(self, backward: BackwardPass) -> None:
        self._passes.append(backward)

    def moved(self, step: Movement) -> None:
        self._with_step = {index: dot(held, step[index]) for index, held in self._held.items()}
        self._before = {}

    def result(self) -> Dots:
        if not self._passes:
            raise Unavailable("no backward pass was seen")
        whole, _ = pooled_shares(self._passes)
        if self._held:
            self._surroundings.memory[self._probe] = self._surroundings.index, self._held, whole
        dots = [*self._with_step.values(), *self._with_before.values()]
        numbers = iter(torch.stack(dots).tolist() if dots else ())
        names = [p.name for p in self._surroundings.table]
        along = {names[index]: next(numbers) / whole for index in self._with_step}
        return Dots(along, {names[i]: next(numbers) / (whole * self._scale_before) for i in self._with_before})


def dot(left: Tensor, right: Tensor) -> Tensor:
    """``⟨x, y⟩`` of two tensors of the same shape, float64 of shape ``[]``."""
    x, y = working(left).reshape(-1), working(right).reshape(-1)
    if y.dtype != x.dtype:
        y = y.to(x.dtype)
    if len(x) <= _PIECE:
        return torch.dot(x, y).double()
    pieces = zip(x.split(_PIECE), y.split(_PIECE), strict=True)
    return torch.stack([torch.dot(a, b) for a, b in pieces]).double().sum()
