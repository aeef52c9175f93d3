"""RMSprop on a scaled loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from cockpit.optim.alike import Alike
from cockpit.optim.checks import at_least
from cockpit.optim.loss_scaled import LossScaledOptimizer
from cockpit.optim.passes import blocks, rescale, with_decay
from cockpit.optim.scales import Scale


class ScaledRMSprop(LossScaledOptimizer):
    """:class:`torch.optim.RMSprop` for gradients of a scaled loss, ``ĝ = S·∇L``::

        ĝ ← ĝ + S·λ·θ
        v ← α·(S/S′)²·v + (1 − α)·ĝ²
        θ ← θ − lr·ĝ / (√v + S·ε)

    where ``S′`` is the scale of the step before. ``S`` cancels in ``ĝ/√v``; what is left of it is in ``ε``, in the
    weight decay, and in how states pass from one scale to the next. Centered, ``m ← α·(S/S′)·m + (1 − α)·ĝ``
    and ``√(v − m²)`` in place of ``√v``; with momentum, ``b ← μ·b + ĝ/(√v + S·ε)`` and ``θ ← θ − lr·b``.

    Args:
        params: As for any optimizer.
        lr: Learning rate.
        scale: ``S``: a number, a function of the number of steps so far, a number for each parameter of the group, or a
            :class:`~cockpit.optim.DynamicScale`.
        alpha: ``α``.
        eps: ``ε``.
        weight_decay: ``λ``, an L2 penalty.
        momentum: ``μ``.
        centered: Divides by the standard deviation.

    Raises:
        ValueError: If a scale is zero, negative or not finite, or an option negative.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        scale: Scale = 2.0**16,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        at_least(0, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
        super().__init__(
            params,
            {
                "lr": lr,
                "scale": scale,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
            },
        )

    def _update(self, group: dict[str, Any], alike: Alike) -> None:
        names = ["square_avg", *["momentum_buffer"] * bool(group["momentum"]), *["grad_avg"] * group["centered"]]
        for parameters, gradients, *states in blocks(
            alike.parameters, alike.gradients, *(alike.state(name) for name in names)
        ):
            self._apply(group, alike, parameters, gradients, dict(zip(names, states, strict=True)))

    def _apply(
        self,
        group: dict[str, Any],
        alike: Alike,
        parameters: list[Tensor],
        gradients: list[Tensor],
        states: dict[str, list[Tensor]],
    ) -> None:
        lr, alpha = float(group["lr"]), group["alpha"]
        gradients = with_decay(gradients, parameters, alike.scale * group["weight_decay"])
        squares = states["square_avg"]
        torch._foreach_mul_(squares, alpha * alike.change**2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - alpha)
        if group["centered"]:
            means = states["grad_avg"]
            rescale(means, alike.change)
            torch._foreach_lerp_(means, gradients, 1 - alpha)
            spread = list(torch._foreach_addcmul(squares, means, means, value=-1))
            torch._foreach_sqrt_(spread)
        else:
            spread = list(torch._foreach_sqrt(squares))
        torch._foreach_add_(spread, alike.scale * group["eps"])
        if group["momentum"]:
            buffers = states["momentum_buffer"]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_addcdiv_(buffers, gradients, spread)
            torch._foreach_add_(parameters, buffers, alpha=-lr)
        else:
            torch._foreach_addcdiv_(parameters, gradients, spread, value=-lr)
