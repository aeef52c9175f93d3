"""What the loss-scaled optimizers share: gradients of a scaled loss are used as they come, never unscaled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from cockpit.optim.alike import Alike, grouped, with_gradients
from cockpit.optim.checks import at_least
from cockpit.optim.passes import all_finite, all_zero, unscaled_norms
from cockpit.optim.saved import SCHEDULE, require_fitting, savable
from cockpit.optim.scaled_loss import ScaledLoss
from cockpit.optim.scales import DynamicScale, checked, values


@dataclass(frozen=True)
class _Spent:
    """Gradients that a step was made with.

    Args:
        parameter: One of those that had a gradient.
        gradient: It; the smallest, for it is held until the next step.
        version: Tells whether it has been written to since.
        scales: What all of them were multiplied with.
    """

    parameter: Tensor
    gradient: Tensor
    version: int
    scales: dict[Tensor, float]

    def still_there(self) -> bool:
        """Whether they are what a further step would be made with."""
        return self.parameter.grad is self.gradient and self.gradient._version == self.version


class LossScaledOptimizer(Optimizer):
    """An optimizer that uses the gradients of a scaled loss as they are.

    ``optimizer.scale(loss).backward(); optimizer.step()`` does what the plain optimizer does on the plain loss. Its
    state is kept at the gradients' scale, and ``S`` enters a few coefficients, where it costs nothing. (Beyond 2⁴⁰,
    where squares would overflow, and for float16 parameters, gradients are rescaled in one more pass.) Gradients that
    were not scaled (``loss.backward()``) are taken as they are, too.

    Under ``torch.amp.GradScaler`` the scaler's scale takes part in the same way: nothing is unscaled, and steps whose
    gradients overflowed are skipped.

    Args:
        params: As for any optimizer. Groups may have a ``scale`` of their own.
        defaults: Options of the groups, ``scale`` among them.

    Raises:
        ValueError: If a scale is zero, negative or not finite, or a parameter is complex.
        TypeError: If a scale is nothing that could be one.
    """

    _step_supports_amp_scaling = True  # what GradScaler asks for

    skipped = False
    """Whether the last step was, because gradients overflowed."""

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self._forget()
        super().__init__(params, {**defaults, "steps": 0})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def _forget(self) -> None:
        self._applied: dict[Tensor, float] | None = None
        self._spent: _Spent | None = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As for any optimizer."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            if any(parameter.is_complex() for parameter in group["params"]):
                raise ValueError(
                    "loss-scaled optimizers have no rule for complex parameters: hand over their real and imaginary "
                    "parts, torch.view_as_real(parameter)"
                )
            self._scales_of(group)
        except Exception:
            self.param_groups.pop()
            raise

    def scale(self, loss: Tensor) -> ScaledLoss:
        """The loss, to be differentiated at the scale of this step: every loss of a step, or none.

        Args:
            loss: A scalar. With gradient accumulation, each of them.

        Raises:
            ValueError: If a scale is zero, negative or not finite, or does not fit into the loss's precision.
            TypeError: If the loss is no tensor with a real number, or a scale nothing that could be one.
            RuntimeError: If gradients of another scale have been accumulated since the last step, now or when
                ``backward`` is called.
        """
        if isinstance(loss, Tensor) and loss.is_floating_point():
            self._fit_into(loss.dtype)
        scales = self.scales()
        scaled = ScaledLoss(loss, scales, self._begins)
        self._require_same(scales)
        return scaled

    def _fit_into(self, dtype: torch.dtype) -> None:
        """Scales that adapt are lowered to what the loss's precision holds."""
        for group in self.param_groups:
            scale = group["scale"]
            while isinstance(scale, DynamicScale) and math.inf > scale.value > torch.finfo(dtype).max:
                scale.update(overflowed=True)

    def _begins(self, scales: dict[Tensor, float]) -> None:
        """A loss is about to be differentiated at these scales."""
        self._require_same(scales)
        if self._applied is None:
            there = [(p, p.grad) for p in scales if p.grad is not None and p.grad.layout == torch.strided]
            known = self.present_scales()
            others = [gradient for p, gradient in there if known[p] != scales[p]]
            if others and not all_zero(others):
                raise RuntimeError(
                    "gradients are there already that were not scaled, or for an earlier step: call zero_grad() first, "
                    "and let every loss of a step go through scale()"
                )
        self._applied = scales

    def _require_same(self, scales: dict[Tensor, float]) -> None:
        accumulated = self._applied is not None and any(p.grad is not None for p in scales)
        if accumulated and self._applied != scales:
            raise RuntimeError(
                "gradients were accumulated at another loss scale: change scales (and learning rates that are scales) "
                "between step() and backward(), or call zero_grad() first"
            )

    def gradients_are_scaled(self) -> None:
        """Says that gradients were multiplied with the scales by other means than :meth:`scale`: by ``(loss * S)``, or
        within the network, layer by layer."""
        self._applied = self.scales()

    def scales(self) -> dict[Tensor, float]:
        """The scale at which the gradient of each parameter is expected next.

        Raises:
            ValueError: If one is zero, negative or not finite, or there is not one for each parameter.
            TypeError: If one is nothing that could be a scale.
        """
        return {
            parameter: scale
            for group in self.param_groups
            for parameter, scale in zip(group["params"], self._scales_of(group), strict=True)
        }

    def present_scales(self) -> dict[Tensor, float]:
        """What the gradients that are there were multiplied with, and :meth:`step` accounts for, a gradient scaler's
        factor included while it steps."""
        scaler = getattr(self, "grad_scale", None)
        factor = 1.0 if scaler is None else float(scaler)
        applied = self._known() or {}
        return {p: factor * applied.get(p, 1.0) for group in self.param_groups for p in group["params"]}

    def _known(self) -> dict[Tensor, float] | None:
        """As :meth:`scale` has it; those of a step's gradients hold for as long as they are there."""
        if self._applied is None and self._spent is not None and self._spent.still_there():
            return self._spent.scales
        return self._applied

    def finds_scaled_gradients(self) -> bool:
        """Whether :meth:`scale` or a gradient scaler, as far as is known, has scaled the gradients that are there."""
        return self._known() is not None or getattr(self, "grad_scale", None) is not None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As for any optimizer."""
        self._forget()
        super().zero_grad(set_to_none)

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float, *, grad_scale: float = 1.0) -> Tensor:
        """Clips the scaled gradients so that the unscaled ones are no longer than ``max_norm`` together.

        Args:
            max_norm: In units of the unscaled gradient.
            grad_scale: Of a gradient scaler that scaled them too: ``scaler.get_scale()``.

        Returns:
            The norm of the unscaled gradients before.

        Raises:
            ValueError: If the norm is negative or NaN, or the scaler's scale is none.
            RuntimeError: As :meth:`step`.
        """
        at_least(0, max_norm=max_norm)
        factor, scales = checked(grad_scale), self.present_scales()
        parameters = with_gradients(scales)
        if not parameters:
            return torch.tensor(0.0)
        gradients = [p.grad for p in parameters if p.grad is not None]
        norms = unscaled_norms(gradients, [factor * scales[p] for p in parameters])
        total: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
        shrink = (max_norm / (total + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(shrink.to(gradient.device))
        return total

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; skipped where a gradient scaler or a :class:`DynamicScale` finds that gradients overflowed.

        Args:
            closure: Evaluates the loss and calls ``optimizer.scale(loss).backward()``.

        Raises:
            RuntimeError: If a gradient is sparse or of another precision than its parameter; nothing has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scales = self.present_scales()
        found = [with_gradients(group["params"]) for group in self.param_groups]
        groups = [
            (group, list(grouped(parameters, self.state, scales)))
            for group, parameters in zip(self.param_groups, found, strict=True)
        ]
        self.skipped = self._overflowed(groups)
        if not self.skipped:
            for group, all_alike in groups:
                group["steps"] += 1
                for one in all_alike:
                    self._update(group, one)
                    for state in one.states:
                        state["step"], state["scale"] = one.step, one.scale
        self._spend([parameter for parameters in found for parameter in parameters])
        return loss

    def _spend(self, parameters: list[Tensor]) -> None:
        """The step is over; its gradients may be there for another one."""
        known = self._known()
        self._forget()
        if known is not None and parameters:
            smallest = min(parameters, key=Tensor.numel)
            assert smallest.grad is not None
            self._spent = _Spent(smallest, smallest.grad, smallest.grad._version, known)

    def _update(self, group: dict[str, Any], alike: Alike) -> None:
        """Applies the rule."""
        raise NotImplementedError

    def _scales_of(self, group: dict[str, Any]) -> list[float]:
        return values(group["scale"], group["steps"], len(group["params"]))

    def _overflowed(self, groups: list[tuple[dict[str, Any], list[Alike]]]) -> bool:
        """Whether the step is to be skipped; scales that adapt are told."""
        found_inf = getattr(self, "found_inf", None)
        skip = found_inf is not None and bool(found_inf)
        adaptive: dict[DynamicScale, bool] = {}
        for group, all_alike in groups:
            scale = group["scale"]
            if isinstance(scale, DynamicScale):
                gradients = [gradient for one in all_alike for gradient in one.gradients]
                adaptive[scale] = adaptive.get(scale, False) or not all_finite(gradients)
        skip = skip or any(adaptive.values())
        for scale, overflow in adaptive.items():
            if overflow or not skip:  # where only others overflowed, nothing was learned
                scale.update(overflow)
        return skip

    def state_dict(self) -> dict[str, Any]:
        """As for any optimizer. Scales that are functions are left out, as schedulers' are."""
        state = super().state_dict()
        for group in state["param_groups"]:
            group["scale"] = savable(group["scale"])
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As for any optimizer.

        Raises:
            ValueError: If the state is not a loss-scaled optimizer's, or of parameters of other shapes; if its scale is
                none, or a function or one that adapts where this optimizer's is not. Nothing has changed then.
        """
        require_fitting(self.param_groups, state_dict)
        present = [group["scale"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        self._forget()
        for scale, group in zip(present, self.param_groups, strict=True):
            if isinstance(group["scale"], dict):
                scale.load_state_dict(group["scale"])
                group["scale"] = scale
            elif isinstance(group["scale"], str) and group["scale"] == SCHEDULE:
                group["scale"] = scale
