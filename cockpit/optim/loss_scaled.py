"""What the loss-scaled optimizers share: gradients of a scaled loss are used as they come, never unscaled."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from cockpit.optim.alike import Alike, grouped, with_gradients
from cockpit.optim.passes import all_finite
from cockpit.optim.saved import SCHEDULE, require_fitting, savable
from cockpit.optim.scaled_loss import ScaledLoss
from cockpit.optim.scales import DynamicScale, values
from cockpit.optim.takes_scaled_loss import TakesScaledLoss


class LossScaledOptimizer(TakesScaledLoss):
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

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self._forget()
        super().__init__(params, {**defaults, "steps": 0})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

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
        """As of any that takes a scaled loss; scales that adapt are lowered to what the loss's precision holds."""
        if isinstance(loss, Tensor) and loss.is_floating_point():
            self._fit_into(loss.dtype)
        return super().scale(loss)

    def _fit_into(self, dtype: torch.dtype) -> None:
        for group in self.param_groups:
            scale = group["scale"]
            while isinstance(scale, DynamicScale) and math.inf > scale.value > torch.finfo(dtype).max:
                scale.update(overflowed=True)

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
                finite = all(all_finite(one.gradients) for one in all_alike)
                adaptive[scale] = adaptive.get(scale, False) or not finite
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
