"""Norm of the mini-batch gradient, parameter by parameter: what every training step computes anyway."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.backward.pooled import pooled_shares
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import sq_norms
from cockpit.probes.probe import Collector, Probe, Surroundings


@dataclass(frozen=True)
class Norms:
    """Squared norms by parameter.

    Args:
        names: Parameters, in the model's order.
        squares: Squared norms, float64, on the host. Shape ``[P]``.
    """

    names: tuple[str, ...]
    squares: Tensor

    def total(self) -> float:
        """The norm over all parameters."""
        return self._total

    def by_layer(self) -> dict[str, float]:
        """The norm of each parameter."""
        return dict(self._by_layer)

    # Every other instrument asks for them.

    @cached_property
    def _total(self) -> float:
        return float(self.squares.sum().sqrt())

    @cached_property
    def _by_layer(self) -> dict[str, float]:
        return dict(zip(self.names, self.squares.sqrt().tolist(), strict=True))


def square_of_sum(
    surroundings: Surroundings, index: int, gradient: Tensor, backward: BackwardPass, first: bool
) -> Tensor:
    """Squared norm of what a parameter's gradients of all passes so far add up to, raw, float64 of shape ``[1]``.

    Args:
        surroundings: The step's.
        index: Which parameter.
        gradient: What the pass brought it.
        backward: The pass.
        first: Whether it is the first one of the step.
    """
    if first:
        return backward.sq_norm(index, gradient)
    return sq_norms([backward.accumulated(index, surroundings.table[index].tensor, gradient)])


@dataclass(frozen=True)
class GradientNorms(Probe[Norms]):
    """``‖g‖²`` per parameter, of the unscaled mean loss, before clipping."""

    def collector(self, surroundings: Surroundings) -> Collector[Norms]:
        """Begins a step."""
        return _NormsCollector(surroundings)


class _NormsCollector(Collector[Norms]):
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._squares: dict[int, Tensor] = {}
        self._passes: list[BackwardPass] = []

    def gradient(self, index: int, gradient: Tensor, backward: BackwardPass) -> None:
        self._squares[index] = square_of_sum(self._surroundings, index, gradient, backward, first=not self._passes)

    def end_pass(self, backward: BackwardPass) -> None:
        self._passes.append(backward)

    def result(self) -> Norms:
        if not self._squares:
            raise Unavailable("no backward pass was seen")
        whole, _ = pooled_shares(self._passes)
        indices = sorted(self._squares)
        squares = torch.cat([self._squares[i] for i in indices]).cpu() / whole**2
        return Norms(tuple(self._surroundings.table[i].name for i in indices), squares)
