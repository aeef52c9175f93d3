"""Whether several backward passes of a step add up to one gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class Accumulation:
    """Watches what lies in ``.grad`` between the backward passes of a step.

    Micro-batches make one mini-batch only if nothing but their gradients is there in the end: not where gradients are
    cleared or clipped in between, nor where some were left over from an earlier step.

    Args:
        parameters: The watched parameters.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._parameters = list(parameters)
        self._left_over: list[Tensor] = []
        self._marks: Sequence[tuple[int, int] | None] | None = None

    def begin(self) -> str | None:
        """A backward pass begins.

        Returns:
            Why it cannot be put together with those before it, ``None`` if it can.
        """
        if self._marks is None:
            # Not looked at unless a second pass comes: one would have to wait for the device.
            self._left_over = [p.grad.detach().to_dense().any() for p in self._parameters if p.grad is not None]
            return None
        if self.left_over():
            return "the step began with gradients of an earlier one, and several backward passes were added to them"
        if self.disturbed():
            return "gradients were cleared or changed between two backward passes of the step"
        return None

    def left_over(self) -> bool:
        """Whether the step began with gradients of an earlier one; may have to wait for the device."""
        return bool(self._left_over) and bool(torch.stack([left.cpu() for left in self._left_over]).any())

    def disturbed(self) -> bool:
        """Whether gradients were cleared or changed since the last pass ended."""
        return self._marks is not None and list(map(_mark, self._parameters)) != self._marks

    def end(self) -> None:
        """The pass is over, and its gradients have been added."""
        self._marks = list(map(_mark, self._parameters))


def accumulated(parameter: Tensor, gradient: Tensor, included: bool) -> Tensor:
    """A parameter's gradient over all backward passes of the step so far.

    Args:
        parameter: The parameter.
        gradient: Its gradient in the present pass.
        included: Whether that has been added to ``.grad`` already.
    """
    if parameter.grad is None:
        return gradient
    held = parameter.grad.detach()
    held = held if held.layout == torch.strided else held.to_dense()
    return held if included else held + gradient


def _mark(parameter: Tensor) -> tuple[int, int] | None:
    """What changes whenever a gradient is replaced or overwritten."""
    gradient = parameter.grad
    if gradient is None:
        return None
    return (gradient.data_ptr() if gradient.layout == torch.strided else id(gradient)), gradient._version
