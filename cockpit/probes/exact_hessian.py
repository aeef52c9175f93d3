"""The exact diagonal of the Hessian by the cheapest way that leads there, and Hutchinson's estimate where none does."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cockpit.capture.individual.workspace import Workspace
from cockpit.capture.second_order.hessian import Hessian
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import ParameterTable
from cockpit.probes.backpack_diagonal import BackpackDiagonal
from cockpit.probes.curvature import Curvature
from cockpit.probes.gauss_newton import Routes, gauss_newton
from cockpit.probes.hessian_diagonal import EXACT_LIMIT, entries, hessian_diagonal
from cockpit.probes.loss_roots import columns_of
from cockpit.probes.piecewise_linear import same_diagonal

COLUMNS_LIMIT = 1_000
"""Numbers put out for a sample up to which the Gauss-Newton matrix is taken column by column for the Hessian's sake."""

PRODUCT = 6
"""What one Hessian product costs where many are taken at once, in forward passes."""

COORDINATES = 3
"""Of each parameter, how many coordinates of a diagonal are held against Hessian products."""


@dataclass
class HessianRoutes:
    """What earlier steps found out about the ways to the diagonal.

    Args:
        gauss_newton: Which parameters closed forms serve.
        disproved: By way and shapes: what was wrong with it.
    """

    gauss_newton: Routes = field(default_factory=Routes)
    disproved: dict[Any, str] = field(default_factory=dict)
    _asked: dict[Any, int] = field(default_factory=dict)

    def due(self, key: Any) -> bool:
        """Whether to hold a way against Hessian products: at first, and ever more rarely."""
        asked = self._asked[key] = self._asked.get(key, 0) + 1
        return asked & (asked - 1) == 0


class ExactHessian:
    """The Hessian of one loss that is about to be differentiated.

    Args:
        graph: The loss.
        table: The watched parameters.
        workspace: Scratch memory.
        routes: What earlier steps found out.
        generator: Draws signs, and coordinates to look at.
        limit: Number of parameters up to which Hessian products are an exact way.
    """

    def __init__(
        self,
        graph: LossGraph,
        table: ParameterTable,
        workspace: Workspace,
        routes: HessianRoutes,
        generator: torch.Generator,
        limit: int = EXACT_LIMIT,
    ) -> None:
        self._graph, self._table, self._workspace = graph, table, workspace
        self._routes, self._generator, self._limit = routes, generator, limit
        self._numel = sum(p.tensor.numel() for p in table)
        self._shapes = tuple(call.signature() for call in graph.modules)

    def diagonal(self, elementwise: bool = False) -> Curvature:
        """Traces of the blocks, exactly if it can be had.

        A piecewise linear model's is the Gauss-Newton matrix's, which takes one backward pass for every number that
        the model puts out for a sample. BackPACK takes one more for every number that goes into a curved activation.
        Otherwise there are as many Hessian products as parameters.

        Args:
            elementwise: Whether the single coordinates are wanted.

        Raises:
            Unavailable: If the loss cannot be differentiated a second time.
        """
        notes = []
        for way in (self._by_gauss_newton, self._by_backpack):
            try:
                found = way(elementwise)
            except Unavailable as reason:
                notes.append(str(reason))
                continue
            if found is not None:
                return found
        names = [parameter.name for parameter in self._table]
        found = hessian_diagonal(self._hessian(), names, self._generator, limit=self._limit, diagonal=elementwise)
        return found if found.exact else dataclasses.replace(found, note="; ".join([found.note, *notes]))

    def _hessian(self) -> Hessian:
        return self._graph.hessian([parameter.tensor for parameter in self._table])

    def _by_gauss_newton(self, elementwise: bool) -> Curvature | None:
        graph = self._graph
        if graph.scale == 0 or not same_diagonal(graph):
            return None
        columns = sum(columns_of(loss) for loss in graph.losses)
        if columns > self._numel:
            return None
        if columns > COLUMNS_LIMIT:
            raise Unavailable(f"{columns:,} outputs for a sample are too many to go through one by one")

        def compute(elementwise: bool) -> Curvature:
            found = gauss_newton(
                graph, self._table, self._workspace, self._routes.gauss_newton, self._generator, None, elementwise
            )
            return dataclasses.replace(found, way="piecewise linear")

        return self._checked("the Gauss-Newton matrix", compute, elementwise)

    def _by_backpack(self, elementwise: bool) -> Curvature | None:
        backpack = BackpackDiagonal(self._graph, self._table, self._workspace, "hessian")
        plan = backpack.plan()
        if self._numel <= self._limit and plan.work > PRODUCT * self._numel * plan.forward:
            return None
        plan.require_feasible()
        compute = functools.partial(backpack.compute, self._generator, None)
        return self._checked("BackPACK's DiagHessian", compute, elementwise)

    def _checked(self, way: str, compute: Callable[[bool], Curvature], elementwise: bool) -> Curvature:
        """Holds some coordinates against Hessian products, at first and ever more rarely.

        Raises:
            Unavailable: If they are not the same, now or in an earlier step of the same shapes.
        """
        key = (way, self._shapes)
        if key in self._routes.disproved:
            raise Unavailable(self._routes.disproved[key])
        due = self._routes.due(key)
        found = compute(elementwise or due)
        if due and (wrong := self._contradicted(found.diagonal)) is not None:
            self._routes.disproved[key] = f"{way} gave another diagonal than Hessian products do at '{wrong}'"
            raise Unavailable(self._routes.disproved[key])
        return found if elementwise else dataclasses.replace(found, diagonal=())

    def _contradicted(self, diagonal: Sequence[Tensor]) -> str | None:
        """The first parameter that has other curvatures along a few of its coordinates; ``None`` if none has."""
        hessian = self._hessian()
        dtypes = [call.output_dtype for call in self._graph.modules] + [values.dtype for values in diagonal]
        eps = max(torch.finfo(dtype).eps for dtype in dtypes)
        largest = max(float(values.abs().max()) for values in diagonal)
        for index, (parameter, values) in enumerate(zip(self._table, diagonal, strict=True)):
            chosen = torch.randint(
                values.numel(), (COORDINATES,), generator=self._generator, device=self._generator.device
            )
            places = chosen.to(values.device)
            exact = entries(hessian, index, places)
            told = values.reshape(-1)[places].to(exact.dtype)
            size = max(float(values.abs().max()), float(exact.abs().max()))
            near = (told - exact).abs() <= 16 * eps**0.5 * size + 16 * eps * largest
            if not bool((near | ~exact.isfinite()).all()):
                return parameter.name
        return None
