"""What a step does that no hook on a tensor sees coming: loss functions, and how gradients are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cockpit.capture.losses.taking_apart import LOSS_FUNCTIONS

# Both accumulate gradients; torch.autograd.grad hands them over.
_BACKWARD = (torch.Tensor.backward, torch.autograd.backward)


class LossWatch(TorchFunctionMode):
    """Reports every loss call inside the ``with`` block that a backward pass could start from.

    Args:
        on_loss: Called after the call with function, arguments, keyword arguments and output.
        on_backward: Called with what ``backward`` is about to be called with.
        on_aside: Called with true before ``torch.autograd.grad``, and with false after it.
        on_returned: Called when ``backward`` is over; not for those that run inside it.
        on_broken: Called if ``backward`` raises.
    """

    def __init__(
        self,
        on_loss: Callable[..., None],
        on_backward: Callable[..., None],
        on_aside: Callable[[bool], None],
        on_returned: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        super().__init__()
        self._on_loss, self._on_backward, self._on_aside = on_loss, on_backward, on_aside
        self._on_returned, self._on_broken = on_returned, on_broken

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Lets everything pass; losses are reported once they are computed."""
        kwargs = dict(kwargs or {})
        if func is torch.autograd.grad:
            return self._aside(func, args, kwargs)
        if func in _BACKWARD:
            return self._backward(func, args, kwargs)
        result = func(*args, **kwargs)
        if func in LOSS_FUNCTIONS and isinstance(result, Tensor) and result.requires_grad:
            self._on_loss(func, args, kwargs, result)
        return result

    def _backward(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._on_backward(*args, **kwargs)
        try:
            result = func(*args, **kwargs)
        except BaseException:
            self._on_broken()
            raise
        self._on_returned()
        return result

    def _aside(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._on_aside(True)
        try:
            return func(*args, **kwargs)
        finally:
            self._on_aside(False)


@dataclass(frozen=True)
class Root:
    """What a backward pass starts from.

    Args:
        value: The number, or the sum of several, each times the gradient that it was given.
        factor: The constant tensor that it was multiplied with last, as gradient scalers do.
        parts: The tensors, attached to the graph until that is walked, and the gradients that they were given.
        linear: Whether it is linear in the losses that were seen.
    """

    value: Tensor
    factor: Tensor | None
    parts: list[tuple[Tensor, Tensor | None]] = field(default_factory=list, repr=False)
    linear: bool = True

    def unscaled(self) -> float:
        """The number before it was multiplied."""
        return float(self.value) if self.factor is None else float(self.value) / float(self.factor)


def root_of(tensors: Any, gradients: Any = None, *_: Any, **named: Any) -> Root | None:
    """What a call of ``backward`` differentiates, ``None`` where that is no tensor; takes the call's own arguments."""
    gradients = named.get("gradient", named.get("grad_tensors", gradients))
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    given = [gradients] * len(roots) if gradients is None or isinstance(gradients, Tensor) else list(gradients)
    if not roots or not all(isinstance(root, Tensor) for root in roots) or len(given) != len(roots):
        return None
    weighted = [r.detach() if g is None else r.detach() * g.detach() for r, g in zip(roots, given, strict=True)]
    value = torch.stack([part.sum().double() for part in weighted]).sum()
    factor = _last_factor(roots[0]) if len(roots) == 1 else None
    return Root(value, factor, list(zip(roots, given, strict=True)))


def _last_factor(root: Tensor) -> Tensor | None:
    """The constant in ``root = something * constant``; a number of Python's is the user's business."""
    if root.grad_fn is None or root.grad_fn.name() != "MulBackward0":
        return None
    factor = getattr(root.grad_fn, "_saved_other", None)
    if isinstance(factor, Tensor) and factor.dim() == 0 and factor.dtype == torch.float32 and not factor.requires_grad:
        return factor.clone()  # a scaler changes it in place before anybody asks
    return None
