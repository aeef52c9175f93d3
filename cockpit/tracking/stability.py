"""Up to which curvature an optimizer's steps shrink a quadratic: beyond it they grow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch.optim import SGD, Optimizer

from cockpit.optim import ScaledSGD


def largest_stable_curvature(
    rate: float, momentum: float = 0.0, dampening: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
) -> float:
    r"""Largest eigenvalue of the Hessian at which gradient descent on a quadratic does not diverge.

    .. math::
        \frac{2}{\eta}, \qquad \frac{2 (1 + \beta)}{\eta (1 - d)}, \qquad \frac{2 (1 + \beta)}{\eta (1 + 2 \beta)}

    plain, with momentum and dampening, and with Nesterov's momentum; weight decay adds to the curvature. Cohen et al.,
    *Gradient descent on neural networks typically occurs at the edge of stability* (2021), appendix B.

    Args:
        rate: Learning rate, positive.
        momentum: :math:`\beta`, at least 0 and less than 1.
        dampening: :math:`d`, less than 1.
        nesterov: Whether the momentum is Nesterov's, which knows no dampening.
        weight_decay: Added to the gradient as a multiple of the parameters.

    Example:
        >>> largest_stable_curvature(0.1, momentum=0.5)
        30.0
    """
    if nesterov:
        return 2 * (1 + momentum) / (rate * (1 + 2 * momentum)) - weight_decay
    damped = 1 - dampening if momentum else 1.0
    return 2 * (1 + momentum) / (rate * damped) - weight_decay


def stable_below(optimizers: Iterable[Optimizer]) -> float | None:
    """The largest stable curvature of these optimizers as they are set now.

    ``None`` unless all are SGD, PyTorch's own or the loss-scaled one, and all groups of parameters agree: adaptive
    optimizers are stable up to a curvature of the *preconditioned* Hessian, with which the Hessian's own has nothing to
    do.
    """
    limits: set[float | None] = set()
    for optimizer in optimizers:
        if type(optimizer) not in (SGD, ScaledSGD):
            return None
        limits.update(_of_group(group) for group in optimizer.param_groups)
    return limits.pop() if len(limits) == 1 else None


def _of_group(group: Mapping[str, Any]) -> float | None:
    """``None`` also for settings that are no plain numbers: whatever a group holds must not stop the optimizer."""
    numbers = [group.get(name) for name in ("lr", "momentum", "dampening", "weight_decay")]
    if not all(isinstance(number, (int, float)) for number in numbers) or group.get("maximize"):
        return None
    rate, momentum, dampening, weight_decay = map(float, numbers)  # type: ignore[arg-type]
    if not (rate > 0 and 0 <= momentum < 1 and dampening < 1):
        return None
    return largest_stable_curvature(rate, momentum, dampening, bool(group.get("nesterov")), weight_decay)
