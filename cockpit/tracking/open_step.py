"""A tracked step while it is open: capture, probes, and the optimizer's move."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from cockpit.capture.backward.assemble import Source, sample_gradients
from cockpit.capture.backward.pooled import pooled_chance, pooled_loss, pooled_shares
from cockpit.capture.capture import Capture
from cockpit.capture.hooks.module_hook import nothing
from cockpit.capture.hooks.undisturbed import aside
from cockpit.capture.losses.loss_call import IndividualLosses
from cockpit.capture.samples.layout import Layouts
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import Movement
from cockpit.probes.collection import ProbeCollection
from cockpit.probes.optimizer_input import scale_taken_back
from cockpit.probes.probe import Surroundings
from cockpit.step import Step
from cockpit.tracking.costs import MOVEMENT, Part
from cockpit.tracking.stability import stable_below
from cockpit.tracking.windows import Audience


class OpenStep:
    """One tracked step from its first forward pass to the optimizer's last change.

    Args:
        index: Number of the step.
        model: The model.
        optimizers: Its optimizers.
        audience: Who looks at it.
        surroundings: What the probes may look at.
        layouts: What earlier steps found out about batch axes.
        on_failure: Told of errors in the cockpit's own hooks.
        source: Makes individual gradients.

    Attributes:
        took: Seconds of the user's block, where the optimizer steps after it.
    """

    took = 0.0

    def __init__(
        self,
        index: int,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        audience: Audience,
        surroundings: Surroundings,
        layouts: Layouts,
        on_failure: Callable[[Exception], None],
        source: Source = sample_gradients,
    ) -> None:
        self.index, self.surroundings = index, surroundings
        self._optimizers, self._on_failure = optimizers, on_failure
        self.audience = audience
        self._moving = 0.0
        roster = audience.roster
        self._displacement = surroundings.displacement if roster.movement else None
        if self._displacement is not None:
            began = time.perf_counter()
            self._displacement.remember()
            self._moving = time.perf_counter() - began
        self._collection = ProbeCollection(roster, surroundings)
        self.looked_at_samples = roster.individual
        self.capture = Capture(
            model,
            surroundings.table,
            layouts,
            self._collection,
            self.looked_at_samples,
            self._failed,
            second_order=roster.second_order,
            inputs=roster.inputs,
            outputs=roster.outputs,
            source=source,
        )
        self._handles: list[RemovableHandle] = []
        self._rates: dict[Optimizer, list[float]] = {}
        self._stable_below: float | None = None
        self._taken_back = 1.0
        self._stepped: set[Optimizer] = set()
        self._after: Callable[[], None] | None = None
        self.movement: Movement | None = None

    @property
    def optimizer_stepped(self) -> bool:
        """Whether an optimizer has stepped, in the block or since."""
        return bool(self._stepped)

    @property
    def coupled(self) -> bool:
        """Whether samples reach each other's activations, as below a train-mode BatchNorm."""
        return any(
            call.axis is not None and call.axis.coupled for backward in self.capture.passes for call in backward.walked
        )

    def seconds(self) -> dict[Part, float]:
        """What parts of the step took so far that have a clock of their own."""
        taken: dict[Part, float] = {} if self._displacement is None else {MOVEMENT: self._moving}
        taken.update(self._collection.seconds.items())
        return taken

    def open(self) -> None:
        """Installs all hooks; if that fails, none are left."""
        try:
            for optimizer in self._optimizers:
                self._handles.append(optimizer.register_step_pre_hook(self._before_optimizer))
                self._handles.append(optimizer.register_step_post_hook(self._after_optimizer))
            self.capture.open()
        except BaseException:
            self.abandon()
            raise

    def leave(self) -> None:
        """The user's block is over: nothing more is captured. The optimizers may still be to come."""
        self.capture.close()

    def when_all_optimizers_stepped(self, then: Callable[[], None]) -> None:
        """Calls ``then`` once, from the last one's hook, if all optimizers step after the block."""
        self._after = then

    def detach(self) -> None:
        """Takes the hooks off the optimizers."""
        for handle in self.disarm():
            handle.remove()

    def disarm(self) -> list[RemovableHandle]:
        """As :meth:`detach`, but from one of the hooks, while others may be waiting in line.

        Returns:
            Hooks that do nothing and hold nothing, to be removed later.
        """
        handles, self._handles, self._after = self._handles, [], None
        for handle in handles:
            hooks = handle.hooks_dict_ref()
            if hooks is not None and handle.id in hooks:
                hooks[handle.id] = nothing
        return handles

    def abandon(self) -> None:
        """Drops everything without a reading."""
        self.capture.close()
        self._collection.forget()
        self.detach()

    def settle(self, seconds: float) -> Step:
        """Measures what the optimizers did and closes all probes.

        Args:
            seconds: Since the run began.
        """
        with torch.no_grad():
            if self._displacement is not None:
                began = time.perf_counter()
                self.movement = self._displacement.measure()
                self._moving += time.perf_counter() - began
                self._collection.moved(self.movement)
            results = self._collection.results()
            rates = self._rates_by_parameter()
            loss, chance = self._loss(), pooled_chance(self.capture.passes)
            individual, scale = self._individual(), self._objective_scale()
            stable = None if not scale or self._stable_below is None else self._stable_below / abs(scale)
            return Step(self.index, seconds, loss, self._samples(), rates, individual, results, chance, stable, scale)

    def diagonal(self, optimizer: Optimizer) -> dict[Tensor, Tensor] | None:
        """The curvature along each parameter, of what the optimizer is about to minimise, by parameter; ``None`` where
        no instrument hands it over in this step.

        Raises:
            Unavailable: With the reason why there is none.
        """
        holder = self._collection.handed_diagonal()
        if holder is None:
            return None
        with aside(), torch.no_grad():
            diagonal, taken_back = holder.diagonal(), scale_taken_back(optimizer, holder.passes())
            if taken_back != 1:
                torch._foreach_div_(list(diagonal.values()), taken_back)
        return diagonal

    def learning_rates(self) -> list[float]:
        """One for each group of parameters, as the optimizers found them when they stepped."""
        return [rate for optimizer in self._optimizers for rate in self._rates.get(optimizer, _rates(optimizer))]

    def _rates_by_parameter(self) -> dict[str, float]:
        names = {id(p.tensor): p.name for p in self.surroundings.table}
        found: dict[str, float] = {}
        for optimizer in self._optimizers:
            for group, rate in zip(optimizer.param_groups, self._rates.get(optimizer, _rates(optimizer)), strict=False):
                found.update({names[id(p)]: rate for p in group["params"] if id(p) in names})
        return found

    def _before_optimizer(self, optimizer: Optimizer, *_: Any) -> None:
        if optimizer not in self._rates:
            self._rates[optimizer] = _rates(optimizer)
            self._stable_below = stable_below(self._optimizers)
            self._taken_back = scale_taken_back(optimizer, self.capture.passes)
        with aside():
            self._collection.before_optimizer(optimizer, self.capture.accumulation)
        self.capture.optimizer_steps(inside=True)

    def _after_optimizer(self, optimizer: Optimizer, *_: Any) -> None:
        self.capture.optimizer_steps(inside=False)
        self._stepped.add(optimizer)
        if self._after is not None and len(self._stepped) == len(self._optimizers):
            then, self._after = self._after, None
            then()

    def _failed(self, error: Exception) -> None:
        self._collection.fail(error)
        self._on_failure(error)

    def _loss(self) -> float | None:
        """The user's number; several micro-batches weigh as their gradients do."""
        try:
            return pooled_loss(self.capture.passes) if self.capture.passes else None
        except Unavailable:  # the instruments that need the pass give the reason
            return None

    def _objective_scale(self) -> float | None:
        try:
            return pooled_shares(self.capture.passes)[0] / self._taken_back if self.capture.passes else None
        except Unavailable:
            return None

    def _samples(self) -> int | None:
        known = [backward.arrangement.samples for backward in self.capture.passes if backward.arrangement is not None]
        return sum(known) if known else None

    def _individual(self) -> IndividualLosses | Unavailable:
        passes = self.capture.passes
        try:
            if not passes:
                raise Unavailable("no backward pass was seen")
            _, shares = pooled_shares(passes)
            parts = [backward.individual() for backward in passes]
        except Unavailable as reason:
            return reason
        weights = [part.weights * share for part, share in zip(parts, shares, strict=True)]
        return IndividualLosses(torch.cat([part.values for part in parts]).cpu(), torch.cat(weights).cpu())


def _rates(optimizer: Optimizer) -> list[float]:
    """The learning rates that are numbers: whatever else an optimizer keeps there must not stop it."""
    rates = [group.get("lr") for group in optimizer.param_groups]
    return [
        float(rate)
        for rate in rates
        if isinstance(rate, (int, float)) or (isinstance(rate, Tensor) and rate.numel() == 1)
    ]
