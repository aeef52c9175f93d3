"""All probes of one step: what arrives is passed to each, and one that fails does not take the others along."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from cockpit.capture.accumulation import Accumulation
from cockpit.capture.backward import BackwardPass
from cockpit.capture.forward import ModuleOutput
from cockpit.capture.gradients import SampleGradients
from cockpit.capture.loss_graph import LossGraph
from cockpit.capture.unavailable import Unavailable
from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.probes.probe import Probe, Surroundings, reduce


class ProbeCollection:
    """Receives a capture's events on behalf of every probe that is due.

    Args:
        probes: The probes.
        surroundings: The step's.

    Attributes:
        seconds: What each probe has taken.
    """

    def __init__(self, probes: Iterable[Probe[Any]], surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._failed: dict[Probe[Any], Unavailable] = {}
        self._collectors = surroundings.collectors
        probes = [each for probe in probes for each in (*probe.builds_on(), probe)]
        self.seconds: dict[Probe[Any], float] = defaultdict(float)
        if any(probe.individual for probe in probes):
            # The moments tell whether individual gradients add up to the gradient; the others take their word for it.
            probes = [PerSampleMoments(), *probes]
        probes = list(dict.fromkeys(probes))
        self._sources = {probe: other for probe in probes for other in probes if probe.contained_in(other)}
        for probe in probes:
            if probe not in self._sources:
                self._attempt(probe, partial(self._begin, probe))

    def _begin(self, probe: Probe[Any]) -> None:
        self._collectors[probe] = probe.collector(self._surroundings)

    def _attempt(self, probe: Probe[Any], action: Callable[[], Any]) -> Any:
        """Runs an action of a probe; an error is kept as the reason why it has no result."""
        if probe in self._failed:
            return None
        broken = [self._failed[foundation] for foundation in probe.builds_on() if foundation in self._failed]
        if broken:
            self._failed[probe] = broken[0]
            return None
        began = time.perf_counter()
        try:
            return action()
        except Unavailable as reason:
            self._failed[probe] = reason
        except Exception as error:
            self._failed[probe] = Unavailable(f"{type(probe).__name__} failed: {type(error).__name__}: {error}")
        finally:
            self.seconds[probe] += time.perf_counter() - began
        return None

    def fail(self, error: Exception) -> None:
        """The capture itself failed: no probe can be trusted."""
        for probe in (*self._collectors, *self._sources):
            self._failed.setdefault(probe, Unavailable(f"the capture failed: {type(error).__name__}: {error}"))

    def forget(self) -> None:
        """Drops what was collected, with the tensors it refers to."""
        self._collectors.clear()

    def model_called(self, batch: Tensor) -> None:
        """Passes on what the model is called with."""
        for probe, collector in self._collectors.items():
            if probe.inputs:
                self._attempt(probe, partial(collector.model_called, batch))

    def module_called(self, output: ModuleOutput) -> None:
        """Passes on what a module returned."""
        for probe, collector in self._collectors.items():
            if probe.outputs:
                self._attempt(probe, partial(collector.module_called, output))

    def gradient(self, index: int, gradient: Tensor, backward: BackwardPass) -> None:
        """Passes on a parameter's gradient."""
        for probe, collector in self._collectors.items():
            self._attempt(probe, partial(collector.gradient, index, gradient, backward))

    def individual(self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass) -> None:
        """Lets every probe reduce a parameter's individual gradients; they are materialised at most once."""
        self._surroundings.routes[index] = gradients.route
        pairs = []
        for probe, collector in self._collectors.items():
            if probe.individual:
                reduction = self._attempt(probe, partial(collector.reduction, index, gradients, gradient, backward))
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
        for probe, collector in self._collectors.items():
            if probe.second_order:
                self._attempt(probe, partial(collector.before_backward, graph))

    def end_pass(self, backward: BackwardPass) -> None:
        """The pass is over."""
        for probe, collector in self._collectors.items():
            self._attempt(probe, partial(collector.end_pass, backward))

    def before_optimizer(self, optimizer: Optimizer, accumulation: Accumulation) -> None:
        """An optimizer is about to step."""
        for probe, collector in self._collectors.items():
            self._attempt(probe, partial(collector.before_optimizer, optimizer, accumulation))

    def moved(self, steps: Sequence[Tensor]) -> None:
        """The optimizer has stepped."""
        for probe, collector in self._collectors.items():
            self._attempt(probe, partial(collector.moved, steps))

    def results(self) -> dict[Probe[Any], Any]:
        """Every probe's result, or the :class:`Unavailable` that says why there is none."""
        results: dict[Probe[Any], Any] = {}
        for probe, collector in self._collectors.items():
            results[probe] = self._attempt(probe, collector.result)
        for probe, source in self._sources.items():
            if source in self._failed:
                self._failed.setdefault(probe, self._failed[source])
            elif source in results:
                results[probe] = self._attempt(probe, partial(probe.extract, results[source]))
        return results | self._failed
