"""Stochastic gradient descent on a scaled loss."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from cockpit.optim.checks import at_least
from cockpit.optim.loss_scaled import Alike, LossScaledOptimizer, with_decay
from cockpit.optim.scales import Scale


class ScaledSGD(LossScaledOptimizer):
    """:class:`torch.optim.SGD` for gradients of a scaled loss, ``ĝ = S·∇L``::

        ĝ ← ĝ + S·λ·θ
        b ← μ·(S/S′)·b + (1 − d)·ĝ            (b = ĝ in the first step)
        θ ← θ − (lr/S)·b                       (Nesterov: ĝ + μ·b in place of b)

    where ``S′`` is the scale of the step before. By default the scale *is* the learning rate, ``S = lr``, so that
    the gradient arrives as the step: what Alosily calls loss scaling as step size (Loss Scaling and Step Size in Deep
    Learning Optimization, 2023, proposition 4.1). While the learning rate is zero the scale is 1: a loss of scale zero
    would leave nothing to accumulate.

    Args:
        params: As for any optimizer.
        lr: Learning rate; schedulers change it as they do any other.
        scale: ``S``: a number, a function of the number of steps so far, a number for each parameter of the group, a
            :class:`~cockpit.optim.DynamicScale`, or ``None`` for the learning rate.
        momentum: ``μ``.
        dampening: ``d``.
        weight_decay: ``λ``, an L2 penalty.
        nesterov: Looks ahead along the momentum.

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
            },
        )

    def _scales_of(self, group: dict[str, Any]) -> list[float]:
        if group["scale"] is not None:
            return super()._scales_of(group)
        return [float(group["lr"]) or 1.0] * len(group["params"])

    def _update(self, group: dict[str, Any], alike: Alike) -> None:
        momentum = group["momentum"]
        gradients = with_decay(alike.gradients, alike.parameters, alike.scale * group["weight_decay"])
        if momentum:
            buffers = self._accumulate(alike, gradients, momentum, group["dampening"])
            gradients = list(torch._foreach_add(gradients, buffers, alpha=momentum)) if group["nesterov"] else buffers
        torch._foreach_add_(alike.parameters, gradients, alpha=-float(group["lr"]) / alike.scale)

    @staticmethod
    def _accumulate(alike: Alike, gradients: list[Any], momentum: float, dampening: float) -> list[Any]:
        """The momentum buffers, this step's gradients in them."""
        old = [i for i, state in enumerate(alike.states) if "momentum_buffer" in state]
        for i in set(range(len(gradients))).difference(old):
            alike.states[i]["momentum_buffer"] = gradients[i].clone()
        if old:
            known = [alike.states[i]["momentum_buffer"] for i in old]
            torch._foreach_mul_(known, momentum * alike.change)
            torch._foreach_add_(known, [gradients[i] for i in old], alpha=1 - dampening)
        return [state["momentum_buffer"] for state in alike.states]
