r"""Diagonal of the generalised Gauss-Newton matrix: vectors from the loss, pulled back to the layers' outputs.

.. math::
    G = \sum_i c_i J_i^\top (\nabla^2 e_i) J_i, \qquad G_{jj} = \mathrm{E} \sum_n (J_n^\top v_n)_j^2, \qquad
    \mathrm{E}[v v^\top] = \nabla^2

Samples do not mix, so each one's pulled-back vector is squared by itself: the closed forms of individual gradients
do it from output gradients alone. Where they do not serve, as below batch normalisation, the whole product is
squared, which is as unbiased and noisier.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cockpit.capture.backward.assemble import sample_gradients
from cockpit.capture.hooks.calls import ModuleCall
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.individual.workspace import Workspace
from cockpit.capture.second_order.loss_graph import LossGraph, OpenLoss
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import ParameterTable
from cockpit.probes.curvature import Curvature
from cockpit.probes.loss_hessian import INSTEAD
from cockpit.probes.loss_roots import HessianPairs, HessianRoot, hessian_root_of
from cockpit.probes.per_sample_moments import MomentsReduction
from cockpit.probes.probe import reduce
from cockpit.probes.square_sums import SquareSums


@dataclass
class Routes:
    """Which parameters closed forms do not serve, as found out for each loss, for shapes and operations of a step."""

    _known: dict[tuple[Any, ...], _Route] = field(default_factory=dict)

    def of(self, graph: LossGraph, loss: OpenLoss) -> _Route:
        """The route for a loss."""
        calls = tuple((call.signature(), call.axis) for call in graph.modules)
        key = (loss.name, loss.call.arrangement, tuple(loss.entries.shape), calls, loss.call.way)
        return self._known.setdefault(key, _Route())


@dataclass
class _Route:
    """What is known of one loss in steps of certain shapes.

    Args:
        whole: Parameters for which only the whole product serves.
        asked: How many steps asked.
    """

    whole: frozenset[int] = frozenset()
    asked: int = 0

    def due(self) -> bool:
        """Whether to hold the closed forms against the whole product: at first, and ever more rarely."""
        self.asked += 1
        return self.asked & (self.asked - 1) == 0


def gauss_newton(
    graph: LossGraph,
    table: ParameterTable,
    workspace: Workspace,
    routes: Routes,
    generator: torch.Generator,
    draws: int | None = 1,
    diagonal: bool = False,
) -> Curvature:
    """Blocks of the generalised Gauss-Newton matrix of what is about to be differentiated.

    Exactly, it takes one backward pass to the layers' outputs for every number that the model puts out for a sample;
    for parameters that closed forms do not serve, for every number that it puts out.

    Args:
        graph: The loss, just before its backward pass.
        table: The watched parameters.
        workspace: Scratch memory.
        routes: What earlier steps found out.
        generator: Draws the vectors.
        draws: How many independent estimates; ``None`` for the exact matrix.
        diagonal: Whether its diagonal is wanted as well.

    Raises:
        Unavailable: If the loss was not recognised, has no Gauss-Newton matrix, or a reentrant checkpoint hides layers.
    """
    if not graph.losses:
        raise Unavailable(
            "no loss of torch.nn or torch.nn.functional was seen, and the Gauss-Newton matrix needs to know what the "
            f"loss was computed from: {INSTEAD}"
        )
    graph.require_whole()
    sums = SquareSums(table, workspace, diagonal)
    pulls = [_Pull(sums, graph, workspace, loss, routes.of(graph, loss)) for loss in graph.losses]
    rows = []
    for _ in range(1 if draws is None else draws):
        for pull in pulls:
            if draws is None:
                pull.exactly()
            else:
                pull.at_random(generator)
        rows.append(sums.next_draw())
    values = tuple(values / len(rows) for values in sums.diagonal) if diagonal else ()
    names = tuple(parameter.name for parameter in table)
    bounds = sums.spread() if draws == 1 else None
    return Curvature(
        names, torch.stack(rows), "ggn" if draws is None else "ggn_mc", draws is None, values, bounds=bounds
    )


class _Pull:
    """One loss's vectors on their way back.

    Args:
        sums: Where squares are added.
        graph: The graph that they go through.
        workspace: Scratch memory.
        loss: The loss.
        route: What is known of it.
    """

    def __init__(
        self, sums: SquareSums, graph: LossGraph, workspace: Workspace, loss: OpenLoss, route: _Route
    ) -> None:  # fmt: skip
        self._sums, self._graph, self._workspace, self._table = sums, graph, workspace, sums.table
        self._route, self._boost = route, _boost(graph, loss)
        self._root = hessian_root_of(loss, self._boost)
        self._samples = None if loss.call.arrangement is None else loss.call.arrangement.samples
        self._trained = [i for i, p in enumerate(sums.table) if p.tensor.requires_grad]
        self._to_check = route.due()

    def at_random(self, generator: torch.Generator) -> None:
        """One draw."""
        if isinstance(self._root, HessianPairs):
            self._add_pair(self._root, *self._root.draw(generator))
        else:
            self._add_samples(self._root, self._root.draw(generator), whole=True)

    def exactly(self) -> None:
        """All columns."""
        if isinstance(self._root, HessianPairs):
            for left, right in self._root.columns():
                self._add_pair(self._root, left, right)
            return
        for column in self._root.columns():
            if bool(column.any()):
                self._add_samples(self._root, column, whole=False)
        if self._route.whole:
            for column in self._root.columns(apart=True):
                if bool(column.any()):
                    self._add_whole(self._pulled(self._root, column, sorted(self._route.whole))[1])

    def _add_pair(self, root: HessianPairs, left: list[Tensor], right: list[Tensor]) -> None:
        tensors = [self._table[i].tensor for i in self._trained]
        pulled = [self._graph.pull(root.at, vectors, tensors) for vectors in (left, right)]
        for i, one, other in zip(self._trained, *pulled, strict=True):
            if one is not None and other is not None:
                self._sums.add_products(i, one / self._boost, other / self._boost)

    def _pulled(
        self, root: HessianRoot, vector: Tensor, wanted: Sequence[int]
    ) -> tuple[list[ModuleCall], dict[int, Tensor | None]]:
        """Calls with what arrived at their outputs, and the products of the parameters wanted."""
        tensors = [self._table[i].tensor for i in wanted]
        reached, products = self._graph.to_outputs([root.at], [vector], tensors)
        return [_with_delta(call, delta) for call, delta in reached], dict(zip(wanted, products, strict=True))

    def _add_samples(self, root: HessianRoot, vector: Tensor, whole: bool) -> None:
        """Squares of every sample's vector, as it arrives at the parameters.

        Args:
            root: Where the vector is put.
            vector: The vector.
            whole: Whether whole products are squared for the parameters that need it.
        """
        check, self._to_check = self._to_check, False
        others = [i for i in self._trained if i in self._route.whole] if whole else []
        calls, products = self._pulled(root, vector, self._trained if check else others)
        if check:
            arrived = {i: product for i, product in products.items() if product is not None}
            self._route.whole = frozenset(i for i, p in arrived.items() if not self._served(i, calls, p))
        owners = {call.module for call in calls}
        for i in self._trained:
            reached = any(module in owners for module, _ in self._table[i].owners)
            if reached and i not in self._route.whole:
                self._sums.add_samples(i, self._gradients(i, calls), self._boost)
        if whole:
            self._add_whole({i: p for i, p in products.items() if i in self._route.whole})

    def _add_whole(self, products: dict[int, Tensor | None]) -> None:
        for i, product in products.items():
            if product is not None:
                product = product.to_dense() / self._boost
                self._sums.add_products(i, product, product)

    def _served(self, index: int, calls: Sequence[ModuleCall], product: Tensor) -> bool:
        """Whether a parameter's closed forms give what arrives at it, sample by sample."""
        modules = {module for module, _ in self._table[index].owners}
        if any(call.module in modules and call.axis is not None and call.axis.coupled for call in calls):
            return False
        try:
            gradients = self._gradients(index, calls)
            moments = MomentsReduction(gradients, product.to_dense())
            reduce(gradients, [moments], self._workspace)
        except Unavailable:
            return False
        lowest = max((call.output_dtype for call in calls), key=lambda dtype: torch.finfo(dtype).eps)
        return moments.adds_up(self._table[index].tensor, lowest)

    def _gradients(self, index: int, calls: Sequence[ModuleCall]) -> SampleGradients:
        if self._samples is None:
            raise Unavailable("the batch size was not found")
        return sample_gradients(self._table[index], calls, self._samples)


def _with_delta(call: ModuleCall, delta: Tensor) -> ModuleCall:
    """The call as it was, with another gradient at its output; the user's own pass knows nothing of it."""
    twin = copy.copy(call)
    twin.delta = delta
    return twin


def _boost(graph: LossGraph, loss: OpenLoss) -> float:
    """A power of two that lifts vectors to the size that the user's loss scale lifts gradients to."""
    size = abs(graph.scale) * float(loss.coefficients.abs().max()) ** 0.5
    return 2.0 ** max(0, round(math.log2(size))) if 0 < size < math.inf else 1.0
