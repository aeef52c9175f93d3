"""Trace and diagonal of a curvature matrix, whichever matrix and whichever way there was asked for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.backward.pooled import pooled_shares
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.capture.unavailable import Unavailable
from cockpit.probes.backpack_diagonal import BackpackDiagonal, Matrix
from cockpit.probes.curvature import Curvature, Method, pooled
from cockpit.probes.exact_hessian import ExactHessian, HessianRoutes
from cockpit.probes.gauss_newton import gauss_newton
from cockpit.probes.hessian_diagonal import hutchinson
from cockpit.probes.loss_hessian import INSTEAD
from cockpit.probes.probe import Collector, Probe, Surroundings

EXACT: tuple[Method, ...] = ("hessian", "ggn")


@dataclass(frozen=True)
class CurvatureBlocks(Probe[Curvature]):
    """Traces of the blocks of a curvature matrix; its diagonal too, where another probe of the step wants it.

    Args:
        curvature: ``hessian`` and ``ggn`` are exact, ``ggn_mc`` and ``hutchinson`` are unbiased estimates of them.
        draws: Independent draws of an estimate in every step that is read.

    Raises:
        ValueError: For another curvature, less than one draw, or several of what is exact.
    """

    second_order: ClassVar[bool] = True
    curvature: Method = "ggn_mc"
    draws: int = 1

    def __post_init__(self) -> None:
        if self.curvature not in get_args(Method):
            raise ValueError(f"curvature is one of {', '.join(get_args(Method))}, got {self.curvature!r}")
        if not isinstance(self.draws, int) or self.draws < 1:
            raise ValueError(f"draws counts independent estimates, at least 1, got {self.draws!r}")
        if self.exact and self.draws != 1:
            raise ValueError(f"curvature={self.curvature!r} is exact and draws nothing: leave draws={self.draws} out")

    @property
    def exact(self) -> bool:
        """Whether there is no sampling noise."""
        return self.curvature in EXACT

    def collector(self, surroundings: Surroundings) -> CurvatureCollector:
        """Begins a step."""
        return CurvatureCollector(self, surroundings)


class CurvatureCollector(Collector[Curvature]):
    """Looks at every loss before it is differentiated.

    Args:
        probe: The settings.
        surroundings: The step's.
    """

    def __init__(self, probe: CurvatureBlocks, surroundings: Surroundings) -> None:
        self._probe, self._surroundings = probe, surroundings
        self._routes: HessianRoutes = surroundings.memory.setdefault(probe, HessianRoutes())
        self._generator: torch.Generator | None = None
        self._pending: Curvature | None = None
        self._passes: list[tuple[BackwardPass, Curvature]] = []
        self.takers = 0
        """How many build on this probe who :meth:`take` the diagonal, which is computed for them."""
        self._with_diagonal: Curvature | None = None
        self._untaken = 0

    @property
    def wants_diagonal(self) -> bool:
        """Whether to compute the diagonal as well."""
        return self.takers > 0

    def take(self) -> Curvature:
        """What was computed of the loss that is about to be differentiated, diagonal included; once every taker has it,
        it is forgotten here."""
        taken = self._with_diagonal
        assert taken is not None
        self._untaken -= 1
        if not self._untaken:
            self._with_diagonal = None
        return taken

    def before_backward(self, graph: LossGraph) -> None:
        """Computes while the graph is whole."""
        graph.require_samples()
        device = self._surroundings.table[0].tensor.device
        if self._generator is None:
            self._generator = self._surroundings.generator(self._probe, device)
        with torch.autocast(device.type, enabled=False):
            found = self._computed(graph, self._generator)
        self._with_diagonal, self._untaken = found if self.wants_diagonal else None, self.takers
        self._pending = found.on_host()

    def _computed(self, graph: LossGraph, generator: torch.Generator) -> Curvature:
        if not self._surroundings.backpack or self._probe.curvature == "hutchinson":
            return self._by_ourselves(graph, generator)
        try:
            return self._by_backpack(graph, generator, self._probe.curvature)
        except Unavailable as reason:
            note = f"BackPACK does not know the way, so the cockpit went its own: {reason}"
            found = self._by_ourselves(graph, generator)
            return dataclasses.replace(found, note="; ".join(filter(None, [note, found.note])))

    def _by_backpack(self, graph: LossGraph, generator: torch.Generator, matrix: Matrix) -> Curvature:
        probe, around = self._probe, self._surroundings
        extension = BackpackDiagonal(graph, around.table, around.workspace, matrix)
        extension.plan().require_feasible()
        return extension.compute(generator, None if probe.exact else probe.draws, self.wants_diagonal)

    def _by_ourselves(self, graph: LossGraph, generator: torch.Generator) -> Curvature:
        probe, around = self._probe, self._surroundings
        if probe.curvature in ("ggn", "ggn_mc"):
            draws, routes = None if probe.exact else probe.draws, self._routes.gauss_newton
            return gauss_newton(graph, around.table, around.workspace, routes, generator, draws, self.wants_diagonal)
        if probe.curvature == "hutchinson":
            names, hessian = [p.name for p in around.table], graph.hessian([p.tensor for p in around.table])
            return hutchinson(hessian, names, generator, probe.draws, self.wants_diagonal)
        hessian_of_loss = ExactHessian(graph, around.table, around.workspace, self._routes, generator)
        return hessian_of_loss.diagonal(self.wants_diagonal)

    def end_pass(self, backward: BackwardPass) -> None:
        """Keeps what was computed, if it stands for all that was differentiated."""
        if self._pending is None:
            raise Unavailable("the call of backward was not seen, and its graph is gone")
        if self._probe.curvature in ("ggn", "ggn_mc") and not backward.explained():
            names = " and ".join(dict.fromkeys(f"'{call.name}'" for call in backward.losses))
            raise Unavailable(
                f"the loss is not {names} alone, and of the rest the Gauss-Newton matrix is not known: {INSTEAD}"
            )
        self._passes.append((backward, self._pending))
        self._pending = self._with_diagonal = None

    def result(self) -> Curvature:
        """Micro-batches weigh as their gradients do."""
        if not self._passes:
            raise Unavailable("no backward pass was seen")
        _, shares = pooled_shares([backward for backward, _ in self._passes])
        return pooled([found for _, found in self._passes], shares)
