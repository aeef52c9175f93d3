"""Second moments of the individual gradients over the curvature, coordinate by coordinate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.capture.unavailable import Unavailable
from cockpit.probes.coordinates import PIECE, Coordinates, CoordinatesCollector
from cockpit.probes.curvature_blocks import CurvatureBlocks, CurvatureCollector
from cockpit.probes.per_sample_moments import covered
from cockpit.probes.probe import Collector, Probe, Surroundings

ENOUGH = 16
"""Draws that an estimated denominator is averaged over: with one, ``E[1/X]`` is twice and more what ``1/E[X]`` is."""

CURVATURE_FLOOR = 32
"""Curvatures below so many rounding errors of the largest one of their parameter are none."""


@dataclass(frozen=True)
class TakeuchiSums:
    """Sums over the coordinates that are curved; float64 on the host.

    Args:
        names: Parameters with individual gradients, in the model's order.
        numel: Coordinates of each. Shape ``[P]``.
        curved: How many of them are curved. Shape ``[P]``.
        ratios: ``Σ_j (Σ_n w_n g_nj²) / H_jj``. Shape ``[P]``.
        draws: How many draws the curvature is averaged over; ``None`` where it is exact.
    """

    names: tuple[str, ...]
    numel: Tensor
    curved: Tensor
    ratios: Tensor
    draws: int | None

    @property
    def ready(self) -> bool:
        """Whether the curvature is exact, or averaged over :data:`ENOUGH` draws."""
        return self.draws is None or self.draws >= ENOUGH


@dataclass(frozen=True)
class Takeuchi(Probe[TakeuchiSums]):
    """``Σ_n w_n g_nj² / H_jj``, reduced at once to sums over coordinates.

    An estimated curvature is averaged over the steps that are read, and over the last of them more than over the first.

    Args:
        curvature: Where the diagonal comes from.
    """

    individual: ClassVar[bool] = True
    second_order: ClassVar[bool] = True
    curvature: CurvatureBlocks = field(default_factory=CurvatureBlocks)

    def builds_on(self) -> tuple[CurvatureBlocks, Coordinates]:
        """The diagonal, and the second moments."""
        return self.curvature, Coordinates()

    def collector(self, surroundings: Surroundings) -> Collector[TakeuchiSums]:
        """Begins a step."""
        return _TakeuchiCollector(self, surroundings)


@dataclass
class RunningMean:
    """Mean of a diagonal over draws: plain for the first sixteen, from then on the past fades."""

    draws: int = 0
    values: list[Tensor] = field(default_factory=list)

    def add(self, diagonal: Sequence[Tensor], draws: int) -> None:
        """Takes the mean over so many new draws.

        Args:
            diagonal: One tensor per parameter.
            draws: How many they are.
        """
        self.draws += draws
        weight = min(1.0, draws / min(self.draws, ENOUGH))
        if not self.values:
            self.values = [torch.zeros_like(new) for new in diagonal]
        for value, new in zip(self.values, diagonal, strict=True):
            value.lerp_(new, weight)


class _TakeuchiCollector(Collector[TakeuchiSums]):
    def __init__(self, probe: Takeuchi, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._mean: RunningMean = surroundings.memory.setdefault(probe, RunningMean())
        curvature, coordinates = (surroundings.collectors[foundation] for foundation in probe.builds_on())
        assert isinstance(curvature, CurvatureCollector)
        assert isinstance(coordinates, CoordinatesCollector)
        self._curvature = curvature
        curvature.takers += 1
        coordinates.listeners.append(self._contract)
        self._diagonal: Sequence[Tensor] = ()
        self._draws: int | None = None
        self._looked = False
        self._sums: dict[int, Tensor] = {}

    def before_backward(self, graph: LossGraph) -> None:
        if self._looked:
            raise Unavailable(
                "the batch came in several backward passes, and the curvature of the whole is not known in the first"
            )
        self._looked = True
        found = self._curvature.take()
        if not bool(found.draws.isfinite().all()):
            raise Unavailable("the curvature is not finite")
        if found.exact:
            self._diagonal, self._draws = found.diagonal, None
            return
        self._mean.add(found.diagonal, len(found.draws))
        self._diagonal, self._draws = self._mean.values, self._mean.draws

    def _contract(self, index: int, second_moment: Tensor) -> None:
        """Takes the second moments of a parameter: at the end of the pass, when the curvature is known."""
        if self._diagonal and (self._draws is None or self._draws >= ENOUGH):
            self._sums[index] = curvature_ratios(second_moment, self._diagonal[index].reshape(-1))

    def end_pass(self, backward: BackwardPass) -> None:
        self._diagonal = ()

    def result(self) -> TakeuchiSums:
        table = self._surroundings.table
        if not self._sums:
            nothing = torch.zeros(0, dtype=torch.float64)
            return TakeuchiSums((), nothing, nothing, nothing, self._draws)
        indices = covered(self._surroundings, self._sums)
        curved, ratios = torch.stack([self._sums[i] for i in indices]).cpu().unbind(1)
        numel = torch.tensor([table[i].tensor.numel() for i in indices], dtype=torch.float64)
        return TakeuchiSums(tuple(table[i].name for i in indices), numel, curved, ratios, self._draws)


def curvature_ratios(second_moment: Tensor, curvature: Tensor) -> Tensor:
    """Sums over the coordinates of one parameter that are curved, either way.

    Args:
        second_moment: ``Σ_n w_n g_nj²``, shape ``[d]``.
        curvature: ``H_jj``, shape ``[d]``.

    Returns:
        Float64, shape ``[2]``: how many coordinates are curved, and ``Σ_j (Σ_n w_n g_nj²) / H_jj``.
    """
    low, high = curvature.aminmax()
    floor = CURVATURE_FLOOR * torch.finfo(curvature.dtype).eps * torch.maximum(-low, high)
    sums = []
    for moments, values in zip(second_moment.split(PIECE), curvature.split(PIECE), strict=True):
        curved = values.abs() > floor
        ratios = torch.where(curved, moments / values, 0.0)
        sums.append(torch.stack([curved.sum().double(), ratios.sum(dtype=torch.float64)]))
    return torch.stack(sums).sum(0)
