"""Parameters that no module hook serves: attention's projections, functional code, weights that are computed.

The graph behind the loss is walked from each parameter's leaf upwards to the nodes where it, or what was made of it
alone, first meets batched data. There the output gradient still tells samples apart.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.utils.hooks import RemovableHandle

from cockpit.capture.batch_axis import Finding
from cockpit.capture.graph.nodes import Graph, Node, Use, between, mixes
from cockpit.capture.hooks.calls import ModuleCall, calls_of
from cockpit.capture.individual.combined import added
from cockpit.capture.individual.forms import form_of
from cockpit.capture.individual.gradients import SampleGradients, Zeros
from cockpit.capture.individual.recurrent import FusedLayer
from cockpit.capture.losses.loss_call import LossCall
from cockpit.capture.samples.findings import as_their_likes
from cockpit.capture.samples.known_layout import Layout
from cockpit.capture.unavailable import Unavailable
from cockpit.capture.walk.consumer import Consumer, Spot, Views
from cockpit.parameters import Parameter, ParameterTable, working

FindAxes: TypeAlias = Callable[[Sequence[GradientEdge]], Sequence[Finding]]
"""Gradient edges -> where the samples are in what arrives there."""


@dataclass(frozen=True)
class Plan:
    """Which parameters are walked to, and where they are consumed.

    Args:
        fingerprint: Of the graph that it was made for.
        spots: By index of the parameter.
        free: By index of the parameter, positions of the nodes without a batch axis above it.
    """

    fingerprint: int
    spots: Mapping[int, Sequence[Spot]]
    free: Mapping[int, Sequence[int]]

    @property
    def complete(self) -> bool:
        """Whether everything was reached."""
        return all(spot.reached for spots in self.spots.values() for spot in spots)


def make_plan(graph: Graph, leaves: Mapping[int, Node], find_axes: FindAxes) -> Plan:
    """Walks from leaves upwards until every path has come to a node with a batch axis.

    Args:
        graph: The graph behind the loss.
        leaves: By index of the parameter.
        find_axes: Looks for batch axes.
    """
    seen: dict[Node, list[Finding]] = {}
    found: dict[int, list[tuple[Use, Node]]] = {index: [] for index in leaves}
    front = {index: [leaf] for index, leaf in leaves.items()}
    passed: dict[int, set[Node]] = {index: set() for index in leaves}
    while any(front.values()):
        uses = {index: [(use, node) for node in nodes for use in graph.uses[node]] for index, nodes in front.items()}
        fresh = dict.fromkeys(use.node for ways in uses.values() for use, _ in ways if use.node not in seen)
        seen |= _axes_of(list(fresh), find_axes)
        for index, ways in uses.items():
            # Above batch statistics a sample's own share, through its own activations, can no longer be told.
            free = dict.fromkeys(
                use.node for use, _ in ways if _is_free(seen[use.node]) and graph.uses[use.node] and not mixes(use.node)
            )
            found[index] += [(use, below) for use, below in ways if use.node not in free]
            front[index] = [node for node in free if node not in passed[index]]
            passed[index].update(free)
    for ways in found.values():
        as_their_likes([seen[use.node] for use, _ in ways], [_likeness(use, below) for use, below in ways])
    position = {node: i for i, node in enumerate(graph.nodes)}
    spots = {
        i: [
            _spot(position[use.node], seen[use.node], use, _views(use, below, leaves[i], passed[i]))
            for use, below in ways
        ]
        for i, ways in found.items()
    }
    return Plan(graph.fingerprint, spots, {i: [position[node] for node in nodes] for i, nodes in passed.items()})


def _axes_of(nodes: Sequence[Node], find_axes: FindAxes) -> dict[Node, list[Finding]]:
    """By node, what is known of each of its outputs."""
    edges = [(node, i) for node in nodes for i in range(len(node._input_metadata))]
    axes = find_axes([GradientEdge(node, i) for node, i in edges]) if edges else []
    found: dict[Node, list[Finding]] = {}
    for (node, _), axis in zip(edges, axes, strict=True):
        found.setdefault(node, []).append(axis)
    return found


def _is_free(axes: Sequence[Finding]) -> bool:
    """Whether gradients come by, and none of them tells samples apart."""
    return any(axis.reached for axis in axes) and not any(axis.axis is not None for axis in axes)


def _likeness(use: Use, below: Node) -> tuple[object, ...]:
    """What uses of a parameter have in common where it is used in the same way, as in every step through time."""
    shapes = tuple(tuple(metadata.shape) for metadata in use.node._input_metadata)
    return use.node.name(), use.place, use.output, shapes, below.name()


def _spot(position: int, axes: Sequence[Finding], use: Use, views: Views | None) -> Spot:
    lacking = [axis.problem for axis in axes if axis.reached and axis.axis is None]
    if mixes(use.node) and use.place == 0:  # what it normalises, in which samples have no axis that was recognised
        lacking.append("its input has no axis along which the samples keep apart")
    problem = f"'{use.node.name()}': {lacking[0]}" if lacking else None
    reached = any(axis.reached for axis in axes)
    return Spot(position, use.place, use.output, tuple(a.axis for a in axes), problem, reached, views)


def _views(use: Use, below: Node, leaf: Node, free: Set[Node]) -> Views | None:
    return None if below is leaf else Views.of(between(below, leaf, free), use.output)


class GraphWalk:
    """The consumers of one step's graphs, and what arrives at them.

    Args:
        table: The watched parameters.
        muted: Asked whenever a gradient comes by whether to let it pass.
        guard: Wraps hooks, so that an error of ours does not reach the user's backward pass.
    """

    def __init__(
        self, table: ParameterTable, muted: Callable[[], bool], guard: Callable[[Callable[..., None]], Any]
    ) -> None:
        self._table, self._muted, self._guard = table, muted, guard
        self._consumers: dict[int, dict[tuple[Node, int], Consumer]] = {}
        self._beyond: set[int] = set()
        self._handles: list[RemovableHandle] = []
        self.twice = False
        self.dtypes: set[torch.dtype] = set()
        """What the operations that were visited computed in."""

    def prepare(self, loss: LossCall, layout: Layout, calls: Sequence[ModuleCall], find_axes: FindAxes) -> None:
        """Finds the consumers behind a loss and hooks them; the first time, looks where the samples are in them.

        Args:
            loss: A loss call that has its arrangement, its entries attached to the graph.
            layout: What is remembered of such steps.
            calls: Calls of modules that own parameters, with their batch axes.
            find_axes: Looks for batch axes.
        """
        graph = loss.graph
        if loss.arrangement is None or graph is None or (layout.plan is not None and not layout.plan.spots):
            return
        if layout.plan is None or layout.plan.fingerprint != graph.fingerprint:
            layout.plan = make_plan(graph, self._unserved(graph, calls), find_axes)
        plan = layout.plan
        leaves = {index: graph.leaves[id(self._table[index].tensor)] for index in plan.spots}
        self._beyond |= {index for index in leaves if not _through_modules(self._table[index], graph, calls)}
        self._attach(graph, plan, leaves, loss.arrangement.samples)

    def _unserved(self, graph: Graph, calls: Sequence[ModuleCall]) -> dict[int, Node]:
        """Leaves of parameters for which calls of modules, and closed forms for these, are not enough."""
        leaves: dict[int, Node] = {}
        for index, parameter in enumerate(self._table):
            leaf = graph.leaves.get(id(parameter.tensor))
            if leaf is None or parameter.tensor.is_complex():
                continue
            if any(call.together for call, _ in calls_of(parameter, calls)):
                continue  # nor is there a sample's own gradient anywhere else
            if not (_through_modules(parameter, graph, calls) and _have_forms(parameter, calls)):
                leaves[index] = leaf
        return leaves

    def _attach(self, graph: Graph, plan: Plan, leaves: Mapping[int, Node], samples: int) -> None:
        fused: dict[Node, FusedLayer] = {}
        hooked: dict[Node, list[Consumer]] = {}
        for index, spots in plan.spots.items():
            own = self._consumers.setdefault(index, {})
            free = {graph.nodes[position] for position in plan.free[index]}
            for spot in spots:
                node = graph.nodes[spot.position]
                if (node, spot.place) not in own:
                    consumer = own[node, spot.place] = Consumer(node, spot, leaves[index], free, samples, fused)
                    hooked.setdefault(node, []).append(consumer)
        for node, consumers in hooked.items():
            self._handles.append(node.register_prehook(self._guard(functools.partial(self._arrived, consumers))))

    def _arrived(self, consumers: Iterable[Consumer], deltas: Sequence[Tensor | None]) -> None:
        if self._muted():
            return
        self.dtypes.update(delta.dtype for delta in deltas if delta is not None)
        for consumer in consumers:
            self.twice |= consumer.visits > 0
            with torch.autocast(consumer.device, enabled=False):
                consumer.take(deltas)

    def serves(self, index: int) -> bool:
        """Whether a parameter is read here."""
        return index in self._consumers

    def first(self, index: int) -> bool:
        """Whether that is better than to call the parameter's modules once more: every consumer has a closed form, or
        some are beyond these modules."""
        return index in self._beyond or all(consumer.closed for consumer in self._consumers[index].values())

    def gradients(self, index: int, samples: int) -> SampleGradients:
        """Individual gradients of a parameter, from every consumer that a gradient came to.

        Args:
            index: The parameter.
            samples: Batch size ``N``.

        Raises:
            Unavailable: If one of them cannot be read, or there is none.
        """
        visited = [consumer for consumer in self._consumers[index].values() if consumer.visits]
        if not visited:
            raise Unavailable("it reaches the loss inside the loss function, or in a way that was not seen")
        for consumer in visited:
            if consumer.problem is not None:
                raise Unavailable(consumer.problem)
        parts = [consumer.arrived for consumer in visited if consumer.arrived is not None]
        return added(parts or [Zeros(samples, working(self._table[index].tensor.detach()))])

    def end_pass(self) -> None:
        """Forgets the consumers that were visited."""
        for index, own in list(self._consumers.items()):
            waiting = {key: consumer for key, consumer in own.items() if not consumer.visits}
            if waiting:
                self._consumers[index] = waiting
            else:
                del self._consumers[index]
        self.twice = False
        self.dtypes.clear()

    def close(self) -> None:
        """Takes all hooks off the graph."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._consumers.clear()


def _through_modules(parameter: Parameter, graph: Graph, calls: Sequence[ModuleCall]) -> bool:
    """Whether a parameter is used no more often than modules that own it were called."""
    return len(graph.uses[graph.leaves[id(parameter.tensor)]]) <= len(calls_of(parameter, calls))


def _have_forms(parameter: Parameter, calls: Sequence[ModuleCall]) -> bool:
    """Whether the calls of the modules that own a parameter can be read by closed forms."""
    return not any(
        form_of(call.module, attribute) is None or call.several_outputs or (call.reached and call.axis is None)
        for call, attribute in calls_of(parameter, calls)
    )
