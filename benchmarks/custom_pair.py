"""The pair of custom optimizers that Alosily's times are those of, written from the formulas.

Loss Scaling and Step Size in Deep Learning Optimization (2023): equations 5.1 to 5.3 and 5.17 to 5.21, 4.2 and 4.4,
with an operation for each one in the formula. ``EPS`` keeps gradients that are zero, which the formulas leave out, from
becoming NaN. Weight decay and bias correction are in neither.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

EPS = 1e-12


class CustomPair(Optimizer):
    """Either half of a pair.

    Args:
        params: As for any optimizer.
        lr: ``η``.
        beta: Of the first moment; ``None`` without one.
        gamma: Of the second moment; ``None`` without one: gradient descent.
        scaled: Whether it is the half that takes gradients of the loss multiplied with :attr:`loss_scale`.
    """

    def __init__(
        self, params: ParamsT, lr: float, beta: float | None = None, gamma: float | None = None, scaled: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "gamma": gamma, "scaled": scaled})

    @property
    def loss_scale(self) -> float:
        """``α`` of equation 5.13, ``η`` of proposition 4.1; 1 for the plain half."""
        group = self.param_groups[0]
        return _alpha(group) if group["scaled"] else 1.0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One parameter after the other."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(group, parameter, parameter.grad, self.state[parameter])

    def _update(self, group: dict[str, Any], parameter: Tensor, g: Tensor, state: dict[str, Tensor]) -> None:
        lr, beta, gamma = group["lr"], group["beta"], group["gamma"]
        if gamma is None:
            parameter.sub_(g if group["scaled"] else lr * g)
            return
        if not state:
            state["s"], state["r"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        s, r = state["s"], state["r"]
        if group["scaled"]:
            alpha = _alpha(group)
            s = alpha * g if beta is None else beta * s + alpha * g
            r = gamma * r + g * g
            parameter.sub_(s / (r.sqrt() + EPS))
        else:
            s = g if beta is None else beta * s + (1 - beta) * g
            r = gamma * r + (1 - gamma) * g * g
            parameter.sub_(lr * (s / (r.sqrt() + EPS)))
        state["s"], state["r"] = s, r


def _alpha(group: dict[str, Any]) -> float:
    if group["gamma"] is None:
        return float(group["lr"])
    kept = 0.0 if group["beta"] is None else group["beta"]
    return float(group["lr"]) * (1 - kept) / math.sqrt(1 - group["gamma"])
