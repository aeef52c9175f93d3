"""Candidates for the batch size, from what the model is called with."""

from __future__ import annotations

from typing import Any

from cockpit.capture.calls import tensors_in


def batch_sizes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...]:
    """Sizes of the first input's first two axes: one of them is the batch."""
    for tensor in tensors_in((args, kwargs)):
        if tensor.dim() >= 1:
            return tuple(tensor.shape[:2])
    return ()
