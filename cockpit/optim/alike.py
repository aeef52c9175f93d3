"""Parameters that are updated in one go, and what has to be true of their gradients first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

_LARGEST = {torch.float64: 2.0**200, torch.float32: 2.0**40, torch.bfloat16: 2.0**40}
"""Scales, and their inverses, up to which squares of gradients stay within a precision. For others there is none: what
float16 holds of a gradient has squares far beyond it."""


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


def nearest(scale: float, dtype: torch.dtype) -> float:
    """The scale, or the nearest to it at which squares of gradients neither overflow nor vanish in a precision."""
    largest = _LARGEST.get(dtype, 1.0)
    return min(max(scale, 1 / largest), largest)


def with_gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those of the parameters that have a gradient.

    Raises:
        RuntimeError: If one is sparse, or of another precision than its parameter.
    """
    found = [parameter for parameter in parameters if parameter.grad is not None]
    for parameter in found:
        gradient = parameter.grad
        assert gradient is not None
        if gradient.layout != torch.strided:
            raise RuntimeError(
                f"loss-scaled optimizers have no rule for sparse gradients, and that of a parameter of shape "
                f"{list(parameter.shape)} is one: make its embedding with sparse=False, or hand its parameters to "
                "another optimizer, such as torch.optim.SparseAdam"
            )
        if gradient.dtype != parameter.dtype:
            raise RuntimeError(
                f"a gradient has its parameter's dtype, {parameter.dtype}; got {gradient.dtype} for one of shape "
                f"{list(parameter.shape)}: convert it before step(), parameter.grad = parameter.grad.to(…)"
            )
    return found


def grouped(
    parameters: Iterable[Tensor], states: Mapping[Tensor, dict[str, Any]], scales: Mapping[Tensor, float]
) -> Iterator[Alike]:
    """Parameters of a group by what their coefficients depend on.

    Args:
        parameters: Those of :func:`with_gradients`.
        states: An optimizer's.
        scales: What each gradient was multiplied with.
    """
    found: dict[tuple[Any, ...], Alike] = {}
    last: tuple[Any, ...] = ()
    for parameter in parameters:
        gradient, state, arrived = parameter.grad, states[parameter], scales[parameter]
        assert gradient is not None
        key = (parameter.device, parameter.dtype, arrived, state.get("scale"), state.get("step", 0))
        if key != last:  # most are as the one before
            one, last = found.get(key) or _nobody(*key), key
            found[key] = one
        one.parameters.append(parameter)
        one.gradients.append(gradient)
        one.states.append(state)
    for (_, _, arrived, _, _), one in found.items():
        if one.scale == arrived:
            yield one
        else:
            yield replace(one, gradients=list(torch._foreach_mul(one.gradients, one.scale / arrived)))


def _nobody(_: torch.device, dtype: torch.dtype, arrived: float, before: float | None, steps: int) -> Alike:
    scale = nearest(arrived, dtype)
    return Alike([], [], [], scale, 1.0 if before is None else scale / before, steps + 1)
