"""A tracked step while it is open: capture, probes, and the optimizer's move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from cockpit.capture.capture import Capture
from cockpit.capture.layout import Layouts
from cockpit.capture.losses import IndividualLosses
from cockpit.capture.unavailable import Unavailable
from cockpit.probes.collection import ProbeCollection
from cockpit.probes.probe import Probe, Surroundings
from cockpit.step import Step


class OpenStep:
    """One tracked step from its first forward pass to the optimizer's last change.

    Args:
        index: Number of the step.
        model: The model.
        optimizers: Its optimizers.
        probes: What is to be collected.
        surroundings: What the probes may look at.
        layouts: What earlier steps found out about batch axes.
        on_failure: Told of errors in the cockpit's own hooks.
    """

    def __init__(
        self,
        index: int,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        probes: Iterable[Probe[Any]],
        surroundings: Surroundings,
        layouts: Layouts,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.index, self.surroundings = index, surroundings
        self._optimizers, self._on_failure = optimizers, on_failure
        probes = list(probes)
        self._displacement = surroundings.displacement if any(probe.movement for probe in probes) else None
        if self._displacement is not None:
            self._displacement.remember()
        self._collection = ProbeCollection(probes, surroundings)
        self.looked_at_samples = any(probe.individual for probe in probes)
        self.capture = Capture(
            model, surroundings.table, layouts, self._collection, self.looked_at_samples, self._failed
        )
        self._handles: list[RemovableHandle] = []
        self._after: Callable[[], None] | None = None
        self.optimizer_stepped = False
        self.steps: Sequence[Tensor] | None = None

    @property
    def coupled(self) -> bool:
        """Whether samples reach each other's activations, as below a train-mode BatchNorm."""
        return any(
            call.axis is not None and call.axis.coupled for backward in self.capture.passes for call in backward.walked
        )

    def open(self) -> None:
        """Installs all hooks."""
        for optimizer in self._optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._before_optimizer))
            self._handles.append(optimizer.register_step_post_hook(self._after_optimizer))
        self.capture.open()

    def leave(self) -> None:
        """The user's block is over: nothing more is captured. The optimizer may still be to come."""
        self.capture.close()
        if self.optimizer_stepped:
            self._remove_hooks()

    def when_optimizer_steps(self, then: Callable[[], None]) -> None:
        """Calls ``then`` once, after an optimizer stepped outside the block."""
        self._after = then

    def abandon(self) -> None:
        """Drops everything without a reading."""
        self.capture.close()
        self._remove_hooks()

    def settle(self, seconds: float) -> Step:
        """Measures what the optimizer did and closes all probes.

        Args:
            seconds: Since the run began.
        """
        self._remove_hooks()
        with torch.no_grad():
            if self._displacement is not None:
                self.steps = self._displacement.measure()
                self._collection.moved(self.steps)
            results = self._collection.results()
            return Step(self.index, seconds, self._loss(), self._samples(), self._individual(), results)

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before_optimizer(self, *_: Any) -> None:
        self.capture.optimizer_steps(inside=True)

    def _after_optimizer(self, *_: Any) -> None:
        self.capture.optimizer_steps(inside=False)
        self.optimizer_stepped = True
        if self._after is not None:
            then, self._after = self._after, None
            then()

    def _failed(self, error: Exception) -> None:
        self._collection.fail(error)
        self._on_failure(error)

    def _loss(self) -> float | None:
        """The user's number; several micro-batches weigh as their gradients do."""
        passes = self.capture.passes
        if not passes:
            return None
        if len(passes) == 1:
            return passes[0].loss()
        scales = [backward.scale() for backward in passes]
        return sum(s * backward.loss() for s, backward in zip(scales, passes, strict=True)) / sum(scales)

    def _samples(self) -> int | None:
        known = [backward.arrangement.samples for backward in self.capture.passes if backward.arrangement is not None]
        return sum(known) if known else None

    def _individual(self) -> IndividualLosses | Unavailable:
        passes = self.capture.passes
        if not passes:
            return Unavailable("no backward pass was seen")
        try:
            parts = [backward.individual() for backward in passes]
            scales = [backward.scale() for backward in passes]
        except Unavailable as reason:
            return reason
        weights = [part.weights * (s / sum(scales)) for part, s in zip(parts, scales, strict=True)]
        return IndividualLosses(torch.cat([part.values for part in parts]).cpu(), torch.cat(weights).cpu())
