"""What the loss-scaled optimizers share: gradients of a scaled loss are used as they come, never unscaled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from cockpit.optim.scaled_loss import ScaledLoss
from cockpit.optim.scales import DynamicScale, values

_LARGEST = {torch.float64: 2.0**200, torch.float32: 2.0**40, torch.bfloat16: 2.0**40}
"""Scales, and their inverses, up to which squares of gradients stay within a precision. For others there is none: what
float16 holds of a gradient has squares far beyond it."""

_SCHEDULE = "schedule"
"""Stands in a state dict for a function, which no file can hold."""


@dataclass(frozen=True)
class Alike:
    """Parameters that are updated with the same coefficients, and so in one go.

    Args:
        parameters: They.
        gradients: Theirs, multiplied with ``scale``.
        states: Their state.
        scale: ``S``, or the nearest to it at which squares of gradients neither overflow nor vanish.
        change: ``S`` over that of their last step: what brings their state to the scale of these gradients.
        step: Number of this step, counted from 1.
    """

    parameters: list[Tensor]
    gradients: list[Tensor]
    states: list[dict[str, Any]]
    scale: float
    change: float
    step: int

    def state(self, name: str) -> list[Tensor]:
        """A tensor for each parameter, zero at first."""
        for parameter, state in zip(self.parameters, self.states, strict=True):
            if name not in state:
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return [state[name] for state in self.states]


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
    """

    _step_supports_amp_scaling = True  # what GradScaler asks for

    skipped = False
    """Whether the last step was, because gradients overflowed."""

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self._applied: dict[Tensor, float] | None = None
        super().__init__(params, {**defaults, "steps": 0})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._applied = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As for any optimizer."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            if any(parameter.is_complex() for parameter in group["params"]):
                raise ValueError("loss-scaled optimizers have no rule for complex parameters")
            self._scales_of(group)
        except ValueError:
            self.param_groups.pop()
            raise

    def scale(self, loss: Tensor) -> ScaledLoss:
        """The loss, to be differentiated at the scale of this step.

        Args:
            loss: A scalar. With gradient accumulation, each of them.

        Raises:
            ValueError: If a scale is zero, negative or not finite, or does not fit into the loss's precision.
            RuntimeError: If gradients of another scale have been accumulated since the last step.
        """
        scales = self.scales()
        scaled = ScaledLoss(loss, scales)
        accumulated = self._applied is not None and any(p.grad is not None for p in scales)
        if accumulated and self._applied != scales:
            raise RuntimeError(
                "gradients were accumulated at another loss scale: change scales (and learning rates that are scales) "
                "between step() and backward(), or call zero_grad() first"
            )
        self._applied = scales
        return scaled

    def gradients_are_scaled(self) -> None:
        """Says that gradients were multiplied with the scales by other means than :meth:`scale`: by ``(loss * S)``, or
        within the network, layer by layer."""
        self._applied = self.scales()

    def scales(self) -> dict[Tensor, float]:
        """The scale at which the gradient of each parameter is expected next.

        Raises:
            ValueError: If one is zero, negative or not finite.
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
        applied = self._applied or {}
        return {p: factor * applied.get(p, 1.0) for group in self.param_groups for p in group["params"]}

    def finds_scaled_gradients(self) -> bool:
        """Whether :meth:`scale` or a gradient scaler, as far as is known, has scaled the gradients that are there."""
        return self._applied is not None or getattr(self, "grad_scale", None) is not None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As for any optimizer."""
        self._applied = None
        super().zero_grad(set_to_none)

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float, *, grad_scale: float = 1.0) -> Tensor:
        """Clips the scaled gradients so that the unscaled ones are no longer than ``max_norm`` together.

        Args:
            max_norm: In units of the unscaled gradient.
            grad_scale: Of a gradient scaler that scaled them too: ``scaler.get_scale()``.

        Returns:
            The norm of the unscaled gradients before.
        """
        scales = self.present_scales()
        found = [(p.grad, grad_scale * scale) for p, scale in scales.items() if p.grad is not None]
        if not found:
            return torch.tensor(0.0)
        gradients = [gradient for gradient, _ in found]
        norms = torch._foreach_div(torch._foreach_norm(gradients), [scale for _, scale in found])
        total: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
        factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.device))
        return total

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; skipped where a gradient scaler or a :class:`DynamicScale` finds that gradients overflowed.

        Args:
            closure: Evaluates the loss and calls ``optimizer.scale(loss).backward()``.

        Raises:
            RuntimeError: If a gradient is sparse; no parameter has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scales = self.present_scales()
        groups = [(group, list(self._alike(group, scales))) for group in self.param_groups]
        self.skipped = self._overflowed(groups)
        self._applied = None
        if not self.skipped:
            for group, all_alike in groups:
                group["steps"] += 1
                for alike in all_alike:
                    self._update(group, alike)
                    for state in alike.states:
                        state["step"], state["scale"] = alike.step, alike.scale
        return loss

    def _update(self, group: dict[str, Any], alike: Alike) -> None:
        """Applies the rule."""
        raise NotImplementedError

    def _scales_of(self, group: dict[str, Any]) -> list[float]:
        return values(group["scale"], group["steps"], len(group["params"]))

    def _alike(self, group: dict[str, Any], scales: dict[Tensor, float]) -> Iterator[Alike]:
        found: dict[tuple[Any, ...], Alike] = {}
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.layout != torch.strided:
                raise RuntimeError("loss-scaled optimizers have no rule for sparse gradients")
            state, arrived = self.state[parameter], scales[parameter]
            largest = _LARGEST.get(parameter.dtype, 1.0)
            scale = min(max(arrived, 1 / largest), largest)
            step, before = state.get("step", 0), state.get("scale", scale)
            key = (parameter.device, parameter.dtype, gradient.dtype, arrived, before, step)
            if key not in found:
                found[key] = Alike([], [], [], scale, scale / before, step + 1)
            found[key].parameters.append(parameter)
            found[key].gradients.append(gradient)
            found[key].states.append(state)
        for (*_, arrived, _, _), alike in found.items():
            if alike.scale == arrived:
                yield alike
            else:
                factor = alike.scale / arrived
                yield replace(alike, gradients=list(torch._foreach_mul(alike.gradients, factor)))

    def _overflowed(self, groups: list[tuple[dict[str, Any], list[Alike]]]) -> bool:
        """Whether the step is to be skipped; scales that adapt are told."""
        found_inf = getattr(self, "found_inf", None)
        skip = found_inf is not None and bool(found_inf)
        adaptive: dict[DynamicScale, bool] = {}
        for group, all_alike in groups:
            scale = group["scale"]
            if isinstance(scale, DynamicScale):
                gradients = [gradient for alike in all_alike for gradient in alike.gradients]
                adaptive[scale] = adaptive.get(scale, False) or _not_finite(gradients)
        skip = skip or any(adaptive.values())
        for scale, overflow in adaptive.items():
            if overflow or not skip:  # where only others overflowed, nothing was learned
                scale.update(overflow)
        return skip

    def state_dict(self) -> dict[str, Any]:
        """As for any optimizer. Scales that are functions are left out, as schedulers' are."""
        state = super().state_dict()
        for group in state["param_groups"]:
            scale = group["scale"]
            if isinstance(scale, DynamicScale):
                group["scale"] = scale.state_dict()
            elif callable(scale):
                group["scale"] = _SCHEDULE
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As for any optimizer.

        Raises:
            ValueError: If the state is of a scale that is a function or adapts, and this optimizer's is neither.
        """
        present = [group["scale"] for group in self.param_groups]
        for scale, group in zip(present, state_dict["param_groups"], strict=False):  # the base class counts them
            saved = group["scale"]
            if (saved == _SCHEDULE and not callable(scale)) or (
                isinstance(saved, dict) and not isinstance(scale, DynamicScale)
            ):
                raise ValueError(
                    "the state was saved with a loss scale that changes by itself: make the optimizer with the same "
                    f"scale before loading it (this one's is {scale!r})"
                )
        super().load_state_dict(state_dict)
        self._applied = None
        for scale, group in zip(present, self.param_groups, strict=True):
            if isinstance(group["scale"], dict):
                scale.load_state_dict(group["scale"])
                group["scale"] = scale
            elif group["scale"] == _SCHEDULE:
                group["scale"] = scale


def with_decay(gradients: list[Tensor], parameters: list[Tensor], factor: float) -> list[Tensor]:
    """``g + factor · θ``; the gradients themselves if the factor is zero."""
    return list(torch._foreach_add(gradients, parameters, alpha=factor)) if factor else gradients


def rescale(tensors: list[Tensor], factor: float) -> None:
    """Multiplies in place, unless with 1."""
    if factor != 1:
        torch._foreach_mul_(tensors, factor)


def _not_finite(gradients: list[Tensor]) -> bool:
    if not gradients:
        return False
    largest = torch._foreach_norm(gradients, float("inf"))
    return not all(bool(torch.isfinite(value)) for value in largest)
