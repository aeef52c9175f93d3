"""Candidates for the batch size, from what the model is called with."""

from __future__ import annotations

from typing import Any

from cockpit.capture.calls import tensors_in

Axes = tuple[tuple[int, ...], ...]
"""Sizes of the first two axes of each tensor of one call: one of them is the batch, most likely the very first."""


def batch_sizes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Axes:
    """Sizes of the inputs' first two axes."""
    return tuple(tuple(tensor.shape[:2]) for tensor in tensors_in((args, kwargs)) if tensor.dim() >= 1)
