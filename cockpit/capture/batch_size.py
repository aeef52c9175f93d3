"""Candidates for the batch size, from what the model is called with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

Axes = tuple[tuple[int, ...], ...]
"""Sizes of the first two axes of each tensor of one call: one of them is the batch, most likely the very first."""

_DEPTH = 2
"""Objects inside objects that are looked into: one may hold itself."""


def batch_sizes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Axes:
    """Sizes of the inputs' first two axes."""
    return tuple(tuple(tensor.shape[:2]) for tensor in handed_over((args, kwargs)) if tensor.dim() >= 1)


def handed_over(value: Any, depth: int = _DEPTH) -> Iterator[Tensor]:
    """All tensors in what a model is called with, in order: in tuples, lists, mappings, and attributes of objects.

    Args:
        value: What it is called with.
        depth: How deep to look into objects.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from handed_over(item, depth)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from handed_over(item, depth)
    elif depth and not isinstance(value, (nn.Module, type)):
        for item in _attributes(value):
            yield from handed_over(item, depth - 1)


def _attributes(value: Any) -> Iterator[Any]:
    """What an object holds, without running any code of its own."""
    yield from getattr(value, "__dict__", {}).values()
    for kind in type(value).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if hasattr(value, name):
                yield getattr(value, name)
