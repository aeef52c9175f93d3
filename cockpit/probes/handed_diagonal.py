"""The diagonal of a curvature matrix, for the training's own use while the step is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.backward.pooled import pooled_shares
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.capture.unavailable import Unavailable
from cockpit.probes.curvature_blocks import CurvatureBlocks, CurvatureCollector
from cockpit.probes.probe import Collector, Probe, Surroundings


@dataclass(frozen=True)
class HandedDiagonal(Probe[None]):
    """Keeps a diagonal on its device until the step is over. Nothing of it is left then.

    Args:
        curvature: Where it comes from.
    """

    second_order: ClassVar[bool] = True
    curvature: CurvatureBlocks = field(default_factory=CurvatureBlocks)

    def builds_on(self) -> tuple[CurvatureBlocks]:
        """What computes the diagonal."""
        return (self.curvature,)

    def collector(self, surroundings: Surroundings) -> DiagonalCollector:
        """Begins a step."""
        return DiagonalCollector(self, surroundings)


class DiagonalCollector(Collector[None]):
    """Holds the diagonal of each backward pass.

    Args:
        probe: The settings.
        surroundings: The step's.
    """

    def __init__(self, probe: HandedDiagonal, surroundings: Surroundings) -> None:
        curvature = surroundings.collectors[probe.curvature]
        assert isinstance(curvature, CurvatureCollector)
        self._curvature, self._table = curvature, surroundings.table
        curvature.takers += 1
        self._pending: Sequence[Tensor] = ()
        self._parts: list[tuple[BackwardPass, Sequence[Tensor]]] = []

    def before_backward(self, graph: LossGraph) -> None:
        """Takes what was just computed."""
        self._pending = self._curvature.take().diagonal

    def end_pass(self, backward: BackwardPass) -> None:
        """It stands for the pass, or the curvature's collector would have failed."""
        self._parts.append((backward, self._pending))
        self._pending = ()

    def diagonal(self) -> dict[Tensor, Tensor]:
        """By parameter: that of what the backward passes so far have differentiated, loss scales included.

        Raises:
            Unavailable: If there was no backward pass, or they do not belong together.
        """
        if not self._parts:
            raise Unavailable("no backward pass was seen yet")
        whole, shares = pooled_shares([backward for backward, _ in self._parts])
        found: dict[Tensor, Tensor] = {}
        for parameter, *values in zip(self._table, *(diagonal for _, diagonal in self._parts), strict=True):
            weighted = torch.zeros_like(values[0])
            for share, part in zip(shares, values, strict=True):
                weighted.add_(part, alpha=whole * share)
            found[parameter.tensor] = weighted.to(parameter.tensor.dtype)
        return found

    def passes(self) -> list[BackwardPass]:
        """The backward passes so far."""
        return [backward for backward, _ in self._parts]

    def result(self) -> None:
        """Nothing outlives the step."""
        self._parts.clear()
