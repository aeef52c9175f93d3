r"""Symmetries of a network that tie weights of the same unit together, told by the graph.

Kunin et al., *Neural mechanics: symmetry and broken conservation laws in deep learning dynamics* (2021), section 3:

- *rescale*: behind a ReLU a unit's incoming weights may be multiplied by ``a > 0`` and its outgoing ones divided by it;
- *scale*: before batch normalisation they may be multiplied by ``a > 0``;
- *translation*: before a softmax the same may be added to all its inputs.

The loss stays what it is, so that its gradient is orthogonal to each of these directions. A symmetry is told of a unit
only where every way from it to the loss keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from cockpit.capture.graph.nodes import Graph, Node, Use, is_hook, kind, reachable
from cockpit.capture.symmetries.unit_axis import HOMOGENEOUS, MOVING, UnitAxis, axis_of, carried, shape_of
from cockpit.capture.symmetries.unit_layers import Layer, UnitWeights, is_batch_norm, is_product, layers_of
from cockpit.parameters import ParameterTable


@dataclass(frozen=True)
class Units:
    """Units of one layer, and the weights that a symmetry ties together.

    Args:
        name: The layer's weight, by its dotted name.
        tied: Weights that change together, unit by unit; several such sets where each has units of its own.
    """

    name: str
    tied: tuple[tuple[UnitWeights, ...], ...]

    @property
    def weights(self) -> list[UnitWeights]:
        """All of them."""
        return [each for together in self.tied for each in together]


@dataclass(frozen=True)
class Symmetric:
    """What a symmetry finds in a network.

    Args:
        layers: Those that have it, in the model's order.
        left_out: Layers that might have it and do not, by the dotted names of their weights, and why.
    """

    layers: tuple[Units, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class _End:
    """Where a way from a layer's units ends."""

    use: Use
    units: UnitAxis
    moved_only: bool


_Ends: TypeAlias = "list[_End] | str"
_Tied: TypeAlias = "tuple[tuple[UnitWeights, ...], ...]"
_IsEnd: TypeAlias = Callable[[Use, UnitAxis], bool]


def rescaled(graph: Graph, table: ParameterTable) -> Symmetric:
    """Units between layers, with operations in between that keep positive factors.

    Args:
        graph: The loss's.
        table: The watched parameters.
    """
    layers, left_out = layers_of(graph, table)
    beneath = {layer.node.next_functions[layer.data][0] for layer in layers.values()} - {None}
    hidden = set(reachable(beneath))
    found: list[Units] = []
    for layer in layers.values():
        if layer.node not in hidden:
            continue  # the last layer, or a head
        ends = _ends(graph, layer, HOMOGENEOUS, lambda use, units: _enters(layers.get(use.node), use, units))
        if isinstance(ends, str) or layer.incomplete:
            left_out[layer.name] = layer.incomplete or str(ends)
            continue
        outgoing = [layers[end.use.node].outgoing for end in ends]
        losing = [
            replace(weights, units=layer.units, repeats=end.units.repeats, divided=True)
            for weights, end in zip(outgoing, ends, strict=True)
            if weights is not None
        ]
        found.append(Units(layer.name, ((*layer.incoming, *losing),)))
    return _in_order(found, left_out, table)


def _enters(layer: Layer | None, use: Use, units: UnitAxis) -> bool:
    """Whether units are the input features of a layer."""
    if layer is None or layer.outgoing is None or use.place != layer.data:
        return False
    return units.axis == 1 and layer.features % (units.units * units.repeats) == 0


def scaled(graph: Graph, table: ParameterTable) -> Symmetric:
    """Units whose every use is normalised over the batch.

    A bias that nothing stands between is left out: normalisation subtracts it, and its gradient is rounding alone.

    Args:
        graph: The loss's.
        table: The watched parameters.
    """

    def tied(layer: Layer, ends: list[_End]) -> _Tied | str:
        direct = all(end.moved_only for end in ends)
        if not direct and layer.incomplete:
            return layer.incomplete
        return (layer.incoming[:1] if direct else layer.incoming,)

    return _of_layers(graph, table, HOMOGENEOUS, _normalises, tied)


def _normalises(use: Use, units: UnitAxis) -> bool:
    channels = use.place == 0 and is_batch_norm(use.node) and bool(use.node._saved_training)
    return channels and units.axis == 1


def shifted(graph: Graph, table: ParameterTable) -> Symmetric:
    """Layers whose outputs go into softmaxes and nowhere else.

    Args:
        graph: The loss's.
        table: The watched parameters.
    """

    def tied(layer: Layer, ends: list[_End]) -> _Tied | str:
        if layer.columns is None:
            return "not every score depends on every input"
        return ((layer.columns,), *((UnitWeights(bias.index, (1, *bias.shape)),) for bias in layer.incoming[1:]))

    return _of_layers(graph, table, MOVING, _exponentiates, tied)


def _exponentiates(use: Use, units: UnitAxis) -> bool:
    if kind(use.node) not in ("LogSoftmax", "Softmax"):
        return False
    shape = shape_of(use.node)
    return axis_of(use.node._saved_dim, len(shape)) == units.axis and shape[units.axis] == units.units


def _of_layers(
    graph: Graph,
    table: ParameterTable,
    through: frozenset[str],
    is_end: _IsEnd,
    tied: Callable[[Layer, list[_End]], _Tied | str],
) -> Symmetric:
    """A symmetry that a layer has by what follows it. Where not all ways lead to an end, nobody expects it.

    Args:
        graph: The loss's.
        table: The watched parameters.
        through: As of :func:`_ends`.
        is_end: As of :func:`_ends`.
        tied: Layer, ends -> which of its weights belong together, or in words why they do not.
    """
    layers, left_out = layers_of(graph, table)
    found: list[Units] = []
    for layer in layers.values():
        ends = _ends(graph, layer, through, is_end)
        if isinstance(ends, str):
            continue
        together = tied(layer, ends)
        if isinstance(together, str):
            left_out[layer.name] = together
        else:
            found.append(Units(layer.name, together))
    return _in_order(found, left_out, table)


def _ends(graph: Graph, layer: Layer, through: frozenset[str], is_end: _IsEnd) -> _Ends:
    """Where all ways from a layer's outputs end.

    Args:
        graph: The loss's.
        layer: The layer.
        through: Operations that they may lead through.
        is_end: Asked at every operation whether it is where they should.

    Returns:
        The ends, or in words why one of the ways ends elsewhere.
    """
    found: list[_End] = []
    open_ways = [(layer.node, UnitAxis(1, layer.units), True)]
    while open_ways:
        node, units, moved_only = open_ways.pop()
        if not graph.uses[node]:
            return "its outputs are part of the loss"
        for use in graph.uses[node]:
            if is_end(use, units):
                found.append(_End(use, units, moved_only))
                continue
            name = kind(use.node)
            known = (name in through or is_hook(use.node)) and use.output == 0
            after = carried(use.node, use.place, shape_of(node), units) if known else None
            if after is None:
                return _met_by(use.node)
            open_ways.append((use.node, after, moved_only and (name in MOVING or is_hook(use.node))))
    return found


def _met_by(node: Node) -> str:
    """Why a way does not lead on."""
    if is_batch_norm(node):
        return "batch normalisation follows it"
    if is_product(node):
        return "its outputs go into a product with what is no weight of a layer's own, or with a shared or frozen one"
    if kind(node) in ("Add", "Sub", "Rsub"):
        return "its outputs are added to something else, as at a residual connection"
    return f"its outputs go through '{kind(node)}', which does not keep factors, or is not known to"


def _in_order(found: list[Units], left_out: dict[str, str], table: ParameterTable) -> Symmetric:
    places = {parameter.name: place for place, parameter in enumerate(table)}
    return Symmetric(tuple(sorted(found, key=lambda units: places[units.name])), left_out)
