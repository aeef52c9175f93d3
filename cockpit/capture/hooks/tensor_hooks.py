"""Hooks on tensors of the graph, where those that the user places are, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor
from torch.utils.hooks import RemovableHandle


def on_gradient(tensor: Tensor, callback: Callable[[Tensor], None]) -> RemovableHandle:
    """Calls back with the gradient at a tensor as it is now, whatever is done to it in place later.

    A hook on a view is orphaned, silently, by an in-place operation that follows; a hook on its base is not.

    Args:
        tensor: Part of the graph.
        callback: Given the gradient, detached, in the tensor's own layout.
    """
    base = hooked_tensor(tensor)
    if base is tensor:
        return cast(RemovableHandle, tensor.register_hook(lambda gradient: callback(gradient.detach())))
    size, stride, offset = tensor.size(), tensor.stride(), tensor.storage_offset() - base.storage_offset()
    base_size, base_stride = base.size(), base.stride()

    def view_hook(gradient: Tensor) -> None:
        gradient = gradient.detach()
        if gradient.stride() != base_stride:
            gradient = gradient.new_empty_strided(base_size, base_stride).copy_(gradient)
        callback(gradient.as_strided(size, stride, gradient.storage_offset() + offset))

    return cast(RemovableHandle, base.register_hook(view_hook))


def move(hooks: dict[int, Any], key: int, *, first: bool) -> None:
    """Puts one of a tensor's hooks before or behind all others.

    They are called in the order in which they were put into their dictionary, whatever ``move_to_end`` says.
    """
    hook = hooks.pop(key)
    others = list(hooks.items()) if first else []
    for other, _ in others:
        del hooks[other]
    hooks[key] = hook
    hooks.update(others)


def hooked_tensor(tensor: Tensor) -> Tensor:
    """The tensor itself, or what it is a view of."""
    base = tensor._base if tensor._is_view() else None
    return tensor if base is None or not base.requires_grad else base
