"""How far gradient and update are from the directions that a symmetry of the network leaves to them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from cockpit.capture.backward.accumulation import Accumulation
from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.graph.nodes import Graph
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.capture.symmetries.unit_layers import UnitWeights
from cockpit.capture.symmetries.unit_symmetries import Symmetric, Units, rescaled, scaled, shifted
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import Movement, ParameterTable, working
from cockpit.probes.probe import Collector, Probe, Surroundings


@dataclass(frozen=True)
class Deviations:
    """What remains of a vector along the direction of a symmetry, unit by unit; float64 on the host.

    Args:
        along: Inner product of both. Shape ``[units]``.
        lengths: Product of their lengths. Shape ``[units]``.
    """

    along: Tensor
    lengths: Tensor

    @property
    def cosines(self) -> Tensor:
        """Of the angles between them, for units where neither is zero. Shape ``[≤ units]``."""
        defined = self.lengths != 0
        return self.along[defined] / self.lengths[defined]


@dataclass(frozen=True)
class Symmetry:
    """Deviations from one symmetry, by the dotted name of the layer's weight, in the model's order.

    Args:
        update: Of ``u = −s``.
        gradient: Of the mini-batch gradient: zero but for rounding.
        decay: ``c`` of the part ``c θ`` of the update that was taken for weight decay and subtracted; where some was.
        left_out: Layers that might have the symmetry and do not, and why.
    """

    update: Mapping[str, Deviations]
    gradient: Mapping[str, Deviations]
    decay: Mapping[str, float]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class UnitProbe(Probe[Symmetry]):
    """Base of the probes of symmetries. They look at the graph of the loss, and differentiate nothing."""

    second_order: ClassVar[bool] = True
    movement: ClassVar[bool] = True

    along_decay: ClassVar[bool] = False
    """Whether weight decay moves along the symmetry however large the weights are, and is to be subtracted."""

    def collector(self, surroundings: Surroundings) -> Collector[Symmetry]:
        """Begins a step."""
        return _UnitCollector(self, surroundings)

    @abstractmethod
    def find(self, graph: Graph, table: ParameterTable) -> Symmetric:
        """Which units have the symmetry."""

    @abstractmethod
    def direction(self, values: Tensor) -> Tensor:
        """Where the symmetry moves a parameter with these values, if it does not divide it."""


@dataclass(frozen=True)
class RescaleDeviations(UnitProbe):
    """``⟨u, w⟩`` of the weights into a unit and its bias, less that of the weights out of it."""

    def find(self, graph: Graph, table: ParameterTable) -> Symmetric:
        """Units between layers."""
        return rescaled(graph, table)

    def direction(self, values: Tensor) -> Tensor:
        """Along themselves."""
        return values


@dataclass(frozen=True)
class ScaleDeviations(UnitProbe):
    """``⟨u, w⟩`` of the weights into a unit before batch normalisation."""

    def find(self, graph: Graph, table: ParameterTable) -> Symmetric:
        """Units whose every use is normalised."""
        return scaled(graph, table)

    def direction(self, values: Tensor) -> Tensor:
        """Along themselves."""
        return values


@dataclass(frozen=True)
class TranslationDeviations(UnitProbe):
    """``Σ_k u_kj`` over the scores ``k`` of a softmax, for each input ``j`` and for the bias."""

    along_decay: ClassVar[bool] = True

    def find(self, graph: Graph, table: ParameterTable) -> Symmetric:
        """Layers before a softmax."""
        return shifted(graph, table)

    def direction(self, values: Tensor) -> Tensor:
        """All of them alike."""
        return torch.ones_like(values)


class _UnitCollector(Collector[Symmetry]):
    def __init__(self, probe: UnitProbe, surroundings: Surroundings) -> None:
        self._probe, self._table = probe, surroundings.table
        self._found: Symmetric | None = None
        self._by_parameter: dict[int, list[UnitWeights]] = {}
        self._decayed: set[int] = set()
        self._gradient: dict[UnitWeights, Tensor] = {}
        self._update: dict[UnitWeights, Tensor] = {}
        self._decay: dict[str, Tensor] = {}
        self._passes = 0

    def before_backward(self, graph: LossGraph) -> None:
        found = self._probe.find(graph.nodes, self._table)
        if self._found is not None and found != self._found:
            raise Unavailable("the backward passes of this step go through different layers")
        if self._found is None:
            for each in (weights for units in found.layers for weights in units.weights):
                self._by_parameter.setdefault(each.index, []).append(each)
        self._found = found

    def gradient(self, index: int, gradient: Tensor, backward: BackwardPass) -> None:
        if index not in self._by_parameter:
            return
        parameter = self._table[index].tensor
        if self._passes:
            gradient = backward.accumulated(index, parameter, gradient)
        for each in self._by_parameter[index]:
            self._gradient[each] = self._products(each, gradient.detach(), parameter.detach())

    def _products(self, weights: UnitWeights, vector: Tensor, values: Tensor) -> Tensor:
        """Inner product of a vector with the direction of the symmetry, and their squared lengths; ``[3, units]``."""
        x, d = working(vector), self._probe.direction(working(values))
        along = weights.sums(x * d)
        return torch.stack([-along if weights.divided else along, weights.sums(x * x), weights.sums(d * d)])

    def end_pass(self, backward: BackwardPass) -> None:
        self._passes += 1

    def before_optimizer(self, optimizer: Optimizer, accumulation: Accumulation) -> None:
        if self._probe.along_decay:
            places = {id(p.tensor): index for index, p in enumerate(self._table)}
            decaying = [group["params"] for group in optimizer.param_groups if group.get("weight_decay")]
            self._decayed |= {places[id(p)] for group in decaying for p in group if id(p) in places}

    def moved(self, step: Movement) -> None:
        for units in () if self._found is None else self._found.layers:
            before = {each.index: self._table[each.index].tensor.detach() - step[each.index] for each in units.weights}
            decay = self._decay_in(units, step, before)
            for each in units.weights:
                update = -step[each.index]
                if decay is not None and each.index in self._decayed:
                    update -= decay.to(update.dtype) * before[each.index]
                self._update[each] = self._products(each, update, before[each.index])

    def _decay_in(self, units: Units, step: Movement, before: Mapping[int, Tensor]) -> Tensor | None:
        """The factor by which weight decay shrinks all sums over scores alike, as it fits best."""
        decayed = [each for each in units.weights if each.index in self._decayed]
        if not decayed:
            return None
        moves = torch.cat([each.sums(working(step[each.index])) for each in decayed])
        values = torch.cat([each.sums(working(before[each.index])) for each in decayed])
        if len(values) < 2 or not bool(values.any()):  # one sum is always fitted
            return None
        self._decay[units.name] = (-(moves @ values) / (values @ values)).clamp_min(0)
        return self._decay[units.name]

    def result(self) -> Symmetry:
        if self._found is None:
            raise Unavailable("no backward pass was seen")
        layers = self._found.layers
        arrived = [units for units in layers if all(each in self._gradient for each in units.weights)]
        return Symmetry(
            {units.name: _deviations(units, self._update) for units in layers},
            {units.name: _deviations(units, self._gradient) for units in arrived},
            {name: float(decay) for name, decay in self._decay.items()},
            self._found.left_out,
        )


def _deviations(units: Units, products: Mapping[UnitWeights, Tensor]) -> Deviations:
    """Adds up what is tied together."""
    sums = [torch.stack([products[each] for each in together]).sum(0) for together in units.tied]
    along, squares, sizes = torch.cat(sums, dim=1).cpu()
    return Deviations(along, (squares * sizes).sqrt())
