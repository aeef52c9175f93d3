"""All probes of one step: what arrives is passed to each, and one that fails does not take the others along."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor
from torch.optim import Optimizer

from cockpit.capture.backward.accumulation import Accumulation
from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.hooks.forward import ModuleOutput
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import Movement
from cockpit.probes.handed_diagonal import DiagonalCollector, HandedDiagonal
from cockpit.probes.probe import Collector, Probe, Surroundings, reduce
from cockpit.probes.roster import Roster

_Listener: TypeAlias = tuple[Probe[Any], Callable[..., Any]]
"""A probe, and the method of its collector that takes an event."""

_FOR_ONE_KIND = {
    "model_called": "inputs",
    "module_called": "outputs",
    "reduction": "individual",
    "before_backward": "second_order",
}
"""Events that only probes of one kind are told of, and the kind."""


class ProbeCollection:
    """Receives a capture's events on behalf of every probe that is due.

    Args:
        roster: The probes.
        surroundings: The step's.

    Attributes:
        seconds: What each probe has taken.
    """

    def __init__(self, roster: Roster, surroundings: Surroundings) -> None:
        self._roster, self._surroundings = roster, surroundings
        self._failed: dict[Probe[Any], Unavailable] = {}
        self._collectors = surroundings.collectors
        self._listeners: dict[str, list[_Listener]] = {}
        self.seconds: dict[Probe[Any], float] = defaultdict(float)
        for probe in roster.probes:
            if probe not in roster.sources:
                self._attempt(probe, self._begin, probe)

    def _begin(self, probe: Probe[Any]) -> None:
        self._collectors[probe] = probe.collector(self._surroundings)

    def _attempt(self, probe: Probe[Any], action: Callable[..., Any], *arguments: Any) -> Any:
        """Runs an action of a probe; an error is kept as the reason why it has no result."""
        if self._failed and self._has_failed(probe):
            return None
        began = time.perf_counter()
        try:
            return action(*arguments)
        except Unavailable as reason:
            self._failed[probe] = reason
        except Exception as error:
            self._failed[probe] = Unavailable(f"{type(probe).__name__} failed: {type(error).__name__}: {error}")
        finally:
            self.seconds[probe] += time.perf_counter() - began
        return None

    def _has_failed(self, probe: Probe[Any]) -> bool:
        """Whether a probe has, or what it builds on."""
        if probe in self._failed:
            return True
        for foundation in self._roster.foundations.get(probe, ()):
            if foundation in self._failed:
                self._failed[probe] = self._failed[foundation]
                return True
        return False

    def _tell(self, event: str, *arguments: Any) -> None:
        """Passes an event on to the collectors that take it."""
        for probe, method in self._listening(event):
            self._attempt(probe, method, *arguments)

    def _listening(self, event: str) -> list[_Listener]:
        """Which collectors do anything with an event, which most do not: it is worked out once a step."""
        found = self._listeners.get(event)
        if found is None:
            kind, idle = _FOR_ONE_KIND.get(event), getattr(Collector, event)
            found = self._listeners[event] = [
                (probe, getattr(collector, event))
                for probe, collector in self._collectors.items()
                if getattr(type(collector), event) is not idle and (kind is None or getattr(probe, kind))
            ]
        return found

    def fail(self, error: Exception) -> None:
        """The capture itself failed: no probe can be trusted."""
        for probe in (*self._collectors, *self._roster.sources):
            self._failed.setdefault(probe, Unavailable(f"the capture failed: {type(error).__name__}: {error}"))

    def forget(self) -> None:
        """Drops what was collected, with the tensors it refers to."""
        self._collectors.clear()
        self._listeners.clear()

    def model_called(self, batch: Tensor) -> None:
        """Passes on what the model is called with."""
        self._tell("model_called", batch)

    def module_called(self, output: ModuleOutput) -> None:
        """Passes on what a module returned."""
        self._tell("module_called", output)

    def gradient(self, index: int, gradient: Tensor, backward: BackwardPass) -> None:
        """Passes on a parameter's gradient."""
        self._tell("gradient", index, gradient, backward)

    def individual(self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass) -> None:
        """Lets every probe reduce a parameter's individual gradients; they are materialised at most once."""
        self._surroundings.routes[index] = gradients.route
        pairs = []
        for probe, method in self._listening("reduction"):
            reduction = self._attempt(probe, method, index, gradients, gradient, backward)
            if reduction is not None:
                pairs.append((probe, reduction))
        try:
            seconds = reduce(gradients, [reduction for _, reduction in pairs], self._surroundings.workspace)
        except Exception as error:
            # What was reduced before the error stays unused: a parameter that is left out enters no result.
            self.left_out(index, f"{type(error).__name__}: {error}")
        else:
            for (probe, _), taken in zip(pairs, seconds, strict=True):
                self.seconds[probe] += taken

    def left_out(self, index: int, reason: str) -> None:
        """A parameter without individual gradients."""
        self._surroundings.left_out[index] = reason

    def before_backward(self, graph: LossGraph) -> None:
        """Lets every probe of second order look at the loss before it is differentiated."""
        self._tell("before_backward", graph)

    def end_pass(self, backward: BackwardPass) -> None:
        """The pass is over."""
        self._tell("end_pass", backward)

    def before_optimizer(self, optimizer: Optimizer, accumulation: Accumulation) -> None:
        """An optimizer is about to step."""
        self._tell("before_optimizer", optimizer, accumulation)

    def moved(self, step: Movement) -> None:
        """The optimizer has stepped."""
        self._tell("moved", step)

    def handed_diagonal(self) -> DiagonalCollector | None:
        """Who holds a diagonal for the training's own use; ``None`` if nobody was to in this step.

        Raises:
            Unavailable: With the reason why there is none.
        """
        for probe in self._roster.probes:
            if isinstance(probe, HandedDiagonal):
                if self._has_failed(probe):
                    raise self._failed[probe]
                collector = self._collectors[probe]
                assert isinstance(collector, DiagonalCollector)
                return collector
        return None

    def results(self) -> dict[Probe[Any], Any]:
        """Every probe's result, or the :class:`Unavailable` that says why there is none."""
        results: dict[Probe[Any], Any] = {}
        for probe, collector in self._collectors.items():
            results[probe] = self._attempt(probe, collector.result)
        for probe, source in self._roster.sources.items():
            if source in self._failed:
                self._failed.setdefault(probe, self._failed[source])
            elif source in results:
                results[probe] = self._attempt(probe, probe.extract, results[source])
        return results | self._failed
