"""Adam and AdamW on a scaled loss."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from cockpit.optim.alike import Alike
from cockpit.optim.checks import at_least, below_one
from cockpit.optim.loss_scaled import LossScaledOptimizer
from cockpit.optim.passes import blocks, can_be_fused, rescale, with_decay
from cockpit.optim.scales import Scale


class ScaledAdam(LossScaledOptimizer):
    """:class:`torch.optim.Adam` for gradients of a scaled loss, ``ĝ = S·∇L``::

        ĝ ← ĝ + S·λ·θ
        m ← β₁·(S/S′)·m + (1 − β₁)·ĝ
        v ← β₂·(S/S′)²·v + (1 − β₂)·ĝ²
        θ ← θ − lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + S·ε·√(1 − β₂ᵗ))

    where ``S′`` is the scale of the step before. ``S`` cancels in ``m/√v``; what is left of it is in ``ε``, in the
    weight decay, and in how states pass from one scale to the next. The bias correction is folded into the
    coefficients, which saves one pass over the parameters. AMSGrad divides by the largest ``v`` so far.

    Args:
        params: As for any optimizer.
        lr: Learning rate.
        scale: ``S``: a number, a function of the number of steps so far, a number for each parameter of the group, or a
            :class:`~cockpit.optim.DynamicScale`.
        betas: ``β₁`` and ``β₂``.
        eps: ``ε``.
        weight_decay: ``λ``, an L2 penalty.
        amsgrad: The variant of Reddi et al., On the Convergence of Adam and Beyond, 2018.
        fused: Takes PyTorch's fused kernel, a single pass, where there is one: for CPUs, CUDA, MPS and XPU. Otherwise,
            and with ``False``, one operation after another for all parameters.

    Raises:
        ValueError: If a scale is zero, negative or not finite, an option negative, or a ``β`` not below 1.
    """

    _decoupled = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        scale: Scale = 2.0**16,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        fused: bool = True,
    ) -> None:
        at_least(0, lr=lr, eps=eps, weight_decay=weight_decay)
        below_one(betas=betas)
        super().__init__(
            params,
            {
                "lr": lr,
                "scale": scale,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "fused": fused,
            },
        )

    def _update(self, group: dict[str, Any], alike: Alike) -> None:
        lists = [alike.parameters, alike.gradients, alike.state("exp_avg"), alike.state("exp_avg_sq")]
        if group["amsgrad"]:
            lists.append(alike.state("max_exp_avg_sq"))
        if group["fused"] and can_be_fused(*lists):
            self._in_one_pass(group, alike, *lists)
            return
        for block in blocks(*lists):
            self._operation_by_operation(group, alike, *block)

    def _in_one_pass(
        self,
        group: dict[str, Any],
        alike: Alike,
        parameters: list[Tensor],
        gradients: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
        *largest: list[Tensor],
    ) -> None:
        """At a scale that stays the same, the rule is that of plain Adam with another ``ε`` and another ``λ``."""
        rescale(means, alike.change)
        for some in (squares, *largest):
            rescale(some, alike.change**2)
        (beta1, beta2), decay = group["betas"], group["weight_decay"]
        step = torch.full((), float(alike.step), device=parameters[0].device)
        kernel = torch._fused_adamw_ if self._decoupled else torch._fused_adam_
        kernel(
            parameters,
            gradients,
            means,
            squares,
            largest[0] if largest else [],
            [step] * len(parameters),
            lr=float(group["lr"]),
            beta1=beta1,
            beta2=beta2,
            weight_decay=decay if self._decoupled else alike.scale * decay,
            eps=alike.scale * group["eps"],
            amsgrad=group["amsgrad"],
            maximize=False,
        )

    def _operation_by_operation(
        self,
        group: dict[str, Any],
        alike: Alike,
        parameters: list[Tensor],
        gradients: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
        *largest: list[Tensor],
    ) -> None:
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        if self._decoupled:
            rescale(parameters, 1 - lr * group["weight_decay"])
        else:
            gradients = with_decay(gradients, parameters, alike.scale * group["weight_decay"])
        rescale(means, alike.change)
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2 * alike.change**2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        for some in largest:
            rescale(some, alike.change**2)
            torch._foreach_maximum_(some, squares)
            squares = some
        unbiased = math.sqrt(1 - beta2**alike.step)
        spread = torch._foreach_sqrt(squares)
        torch._foreach_add_(spread, alike.scale * group["eps"] * unbiased)
        torch._foreach_addcdiv_(parameters, means, spread, value=-lr * unbiased / (1 - beta1**alike.step))


class ScaledAdamW(ScaledAdam):
    """:class:`torch.optim.AdamW` for gradients of a scaled loss: :class:`ScaledAdam` with decoupled weight decay,
    ``θ ← (1 − lr·λ)·θ`` before the step (Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019).

    Args:
        params: As for any optimizer.
        lr: Learning rate.
        scale: As of :class:`ScaledAdam`.
        betas: ``β₁`` and ``β₂``.
        eps: ``ε``.
        weight_decay: ``λ``.
        amsgrad: As of :class:`ScaledAdam`.
        fused: As of :class:`ScaledAdam`.

    Raises:
        ValueError: As :class:`ScaledAdam`.
    """

    _decoupled = True

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        scale: Scale = 2.0**16,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__(params, lr, scale, betas, eps, weight_decay, amsgrad, fused)
