"""How far the parameters moved: in this step, and since training began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import Movement
from cockpit.probes.gradient_norms import Norms
from cockpit.probes.probe import Collector, Probe, Surroundings


@dataclass(frozen=True)
class UpdateNorms(Probe[Norms]):
    """``‖θ(t+1) − θ(t)‖²`` per parameter, measured."""

    movement: ClassVar[bool] = True

    def collector(self, surroundings: Surroundings) -> Collector[Norms]:
        """Begins a step."""
        return _UpdateCollector(surroundings)


class _UpdateCollector(Collector[Norms]):
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._squares: Tensor | None = None

    def moved(self, step: Movement) -> None:
        self._squares = step.squares

    def result(self) -> Norms:
        if self._squares is None:
            raise Unavailable("the optimizer did not step before the next step began")
        names = tuple(p.name for p in self._surroundings.table)
        return Norms(names, self._squares.cpu())


@dataclass(frozen=True)
class WeightNorms(Probe[Norms]):
    """``‖θ(t)‖²`` per parameter, before the step."""

    movement: ClassVar[bool] = True

    def collector(self, surroundings: Surroundings) -> Collector[Norms]:
        """Begins a step."""
        assert surroundings.displacement is not None
        return _NormsBefore(surroundings, surroundings.displacement.sizes())


@dataclass(frozen=True)
class DistanceNorms(Probe[Norms]):
    """``‖θ(t) − θ(0)‖²`` per parameter."""

    movement: ClassVar[bool] = True

    def collector(self, surroundings: Surroundings) -> Collector[Norms]:
        """Begins a step."""
        assert surroundings.displacement is not None
        return _NormsBefore(surroundings, surroundings.displacement.from_start())


class _NormsBefore(Collector[Norms]):
    """Norms that are known before anything happens."""

    def __init__(self, surroundings: Surroundings, squares: Tensor) -> None:
        self._names = tuple(p.name for p in surroundings.table)
        self._squares = squares

    def result(self) -> Norms:
        return Norms(self._names, self._squares.cpu())
