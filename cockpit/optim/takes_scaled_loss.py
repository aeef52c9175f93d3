"""Optimizers that know what the loss was multiplied with, and make up for it themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from cockpit.optim.alike import with_gradients
from cockpit.optim.checks import at_least
from cockpit.optim.passes import all_zero, unscaled_norms
from cockpit.optim.scaled_loss import ScaledLoss
from cockpit.optim.scales import checked


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


class TakesScaledLoss(Optimizer):
    """An optimizer that takes gradients of a scaled loss as they come.

    It says what the scales are, keeps account of which gradients have one, and steps by itself where they overflow:
    ``torch.amp.GradScaler`` unscales nothing for it.
    """

    _step_supports_amp_scaling = True  # what GradScaler asks for

    skipped = False
    """Whether the last step was, because gradients overflowed."""

    _applied: dict[Tensor, float] | None = None
    _spent: _Spent | None = None

    def _forget(self) -> None:
        self._applied, self._spent = None, None

    def scales(self) -> dict[Tensor, float]:
        """The scale at which the gradient of each parameter is expected next."""
        raise NotImplementedError

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
        scales = self.scales()
        scaled = ScaledLoss(loss, scales, self._begins)
        self._require_same(scales)
        return scaled

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

    def _spend(self, parameters: list[Tensor]) -> None:
        """The step is over; its gradients may be there for another one."""
        known = self._known()
        self._forget()
        if known is not None and parameters:
            smallest = min(parameters, key=Tensor.numel)
            assert smallest.grad is not None
            self._spent = _Spent(smallest, smallest.grad, smallest.grad._version, known)
