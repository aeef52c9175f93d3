"""Stochastic gradient descent on a scaled loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from cockpit.optim.alike import Alike
from cockpit.optim.checks import at_least
from cockpit.optim.loss_scaled import LossScaledOptimizer
from cockpit.optim.passes import blocks, can_be_fused, rescale, with_decay
from cockpit.optim.scales import Scale


class ScaledSGD(LossScaledOptimizer):
    """:class:`torch.optim.SGD` for gradients of a scaled loss, ``ĝ = S·∇L``::

        ĝ ← ĝ + S·λ·θ
        b ← μ·(S/S′)·b + (1 − d)·ĝ            (b = ĝ in the first step)
        θ ← θ − (lr/S)·b                       (Nesterov: ĝ + μ·b in place of b)

    where ``S′`` is the scale of the step before. By default the scale *is* the learning rate, ``S = lr``, so that
    the gradient arrives as the step: what Alosily calls loss scaling as step size (Loss Scaling and Step Size in Deep
    Learning Optimization, 2023, proposition 4.1). While the learning rate is zero, or beyond 2⁻⁴⁰ and 2⁴⁰, the scale
    is 1: such a loss would leave nothing to accumulate.

    Args:
        params: As for any optimizer.
        lr: Learning rate; schedulers change it as they do any other.
        scale: ``S``: a number, a function of the number of steps so far, a number for each parameter of the group, a
            :class:`~cockpit.optim.DynamicScale`, or ``None`` for the learning rate.
        momentum: ``μ``.
        dampening: ``d``.
        weight_decay: ``λ``, an L2 penalty.
        nesterov: Looks ahead along the momentum.
        fused: Takes PyTorch's fused kernel, a single pass, where there is one: for CPUs, CUDA, MPS and XPU. Otherwise,
            and with ``False``, one operation after another for all parameters.

    Raises:
        ValueError: If a scale is zero, negative or not finite, an option is negative, or Nesterov's momentum is to
            be zero or dampened.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([2.0]))
        >>> optimizer = ScaledSGD([weight], lr=0.25)
        >>> optimizer.scale((weight**2).sum()).backward()
        >>> weight.grad
        tensor([1.])
        >>> optimizer.step()
        >>> weight.data
        tensor([1.])
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        scale: Scale | None = None,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        fused: bool = True,
    ) -> None:
        at_least(0, lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov's momentum is above zero and not dampened")
        super().__init__(
            params,
            {
                "lr": lr,
                "scale": scale,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "fused": fused,
            },
        )

    def _scales_of(self, group: dict[str, Any]) -> list[float]:
        if group["scale"] is not None:
            return super()._scales_of(group)
        rate = float(group["lr"])
        return [rate if 2.0**-40 <= rate <= 2.0**40 else 1.0] * len(group["params"])

    def _update(self, group: dict[str, Any], alike: Alike) -> None:
        if not group["momentum"]:
            self._apply(group, alike, alike.parameters, alike.gradients, [], first=True)
            return
        known = ["momentum_buffer" in state for state in alike.states]
        for old in set(known):  # a momentum that was zero for a while leaves parameters without
            chosen = [i for i, is_known in enumerate(known) if is_known == old]
            parameters, gradients = ([some[i] for i in chosen] for some in (alike.parameters, alike.gradients))
            if not old:
                for i in chosen:
                    alike.states[i]["momentum_buffer"] = torch.empty_like(
                        alike.parameters[i], memory_format=torch.preserve_format
                    )
            buffers = [alike.states[i]["momentum_buffer"] for i in chosen]
            self._apply(group, alike, parameters, gradients, buffers, first=not old)

    def _apply(
        self,
        group: dict[str, Any],
        alike: Alike,
        parameters: list[Tensor],
        gradients: list[Tensor],
        buffers: list[Tensor],
        first: bool,
    ) -> None:
        """The rule, for parameters that all have momentum buffers from earlier, or all have none."""
        momentum = group["momentum"]
        if group["nesterov"] and not first:
            rescale(buffers, alike.change)
        elif not first:
            momentum *= alike.change
        lists = [parameters, gradients, buffers] if buffers else [parameters, gradients]
        if group["fused"] and can_be_fused(*lists):
            torch._fused_sgd_(
                parameters,
                gradients,
                buffers,
                weight_decay=alike.scale * group["weight_decay"],
                momentum=momentum,
                lr=float(group["lr"]) / alike.scale,
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=False,
                is_first_step=first,
            )
            return
        if not buffers and not group["weight_decay"]:  # a single operation, for which no cache matters
            self._operation_by_operation(group, alike, momentum, first, *lists)
            return
        for block in blocks(*lists):
            self._operation_by_operation(group, alike, momentum, first, *block)

    @staticmethod
    def _operation_by_operation(
        group: dict[str, Any],
        alike: Alike,
        momentum: float,
        first: bool,
        parameters: list[Tensor],
        gradients: list[Tensor],
        buffers: list[Tensor] | None = None,
    ) -> None:
        gradients = with_decay(gradients, parameters, alike.scale * group["weight_decay"])
        if buffers is not None:
            if first:
                torch._foreach_copy_(buffers, gradients)
            else:
                torch._foreach_mul_(buffers, momentum)
                torch._foreach_add_(buffers, gradients, alpha=1 - group["dampening"])
            gradients = list(torch._foreach_add(gradients, buffers, alpha=momentum)) if group["nesterov"] else buffers
        torch._foreach_add_(parameters, gradients, alpha=-float(group["lr"]) / alike.scale)
