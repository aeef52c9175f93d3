"""Sums over a module's output in one pass: the entry point, and its torch twin."""

from __future__ import annotations

import torch
from torch import Tensor

from cockpit.kernels import compiled


def activity(values: Tensor, axis: int, alive: Tensor) -> Tensor:
    """Sum, sum of squares, number of zeros and of elements that are not finite.

    Args:
        values: Real floating-point numbers of any shape, at least one axis.
        axis: The axis of the units: 1, or −1 for the last.
        alive: Which units are other than zero somewhere; those get marked. Shape ``[units]``.

    Returns:
        Float64 on the same device, shape ``[4]``.
    """
    if compiled.usable(values):
        return torch.from_numpy(compiled.activity(*_lines(values, axis), alive))
    return activity_torch(values, axis, alive)


def activity_torch(values: Tensor, axis: int, alive: Tensor) -> Tensor:
    """The plain version of :func:`activity`."""
    lines, by_line = _lines(values.to(torch.promote_types(values.dtype, torch.float32)), axis)
    marked = lines != 0
    alive |= marked.any(0).any(1 if by_line else 0)
    sums = lines.sum(dtype=torch.float64), lines.double().square().sum()
    counts = marked.numel() - marked.sum(), lines.isfinite().logical_not_().sum()
    return torch.stack([*sums, *(count.double() for count in counts)])


def _lines(values: Tensor, axis: int) -> tuple[Tensor, bool]:
    """The values as ``[N, units, …]``, and whether a unit is a line of them; else each line holds all units."""
    if axis == 1 and values.dim() > 2 and not values.movedim(1, -1).is_contiguous():
        return values.reshape(values.shape[0], values.shape[1], -1).contiguous(), True
    values = values.movedim(axis, -1)
    return values.reshape(1, -1, values.shape[-1]).contiguous(), False
