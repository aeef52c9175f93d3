"""Modules under BackPACK's ``extend``: for as long as a block lasts, or because the user has extended them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn

_FLAG = "_backpack_extend"
_KEPT = ("output", "input0")
"""Attributes that BackPACK keeps tensors under, on the module itself."""


@contextmanager
def extended(*modules: nn.Module) -> Iterator[None]:
    """Extends modules, and all modules in them, as ``backpack.extend`` does; afterwards nothing of it is left.

    Modules that the user has extended stay extended, and keep what BackPACK stored on them. BackPACK's hooks make every
    input and output of a module a view, so that an operation in place on one raises in the forward pass: modules that
    say they work in place are refused here, functions that do cannot be seen. While the block lasts, a model whose
    forward pass has run cannot be copied or saved.

    Args:
        modules: The model, and the loss module where second derivatives are wanted.

    Raises:
        ValueError: If a module works in place, or has attributes of its own where BackPACK would keep tensors. Nothing
            is extended then.
    """
    from backpack import extend, memory_cleanup
    from backpack.context import CTX

    fresh = [m for root in modules for m in root.modules() if not is_extended(m)]
    for module in fresh:
        _require_extensible(module)
    kinds = [module._is_full_backward_hook for module in fresh]
    others = list(CTX.hook_handles)
    try:
        for root in modules:
            extend(root)
        yield
    finally:
        known = {id(handle) for handle in others}
        for handle in CTX.hook_handles:
            if id(handle) not in known:
                handle.remove()
        # BackPACK keeps handles forever, and with them the modules' dictionaries of hooks.
        CTX.hook_handles = [handle for handle in CTX.hook_handles if id(handle) in known]
        for module, kind in zip(fresh, kinds, strict=True):
            module._is_full_backward_hook = kind
            if module.__dict__.pop(_FLAG, False):
                memory_cleanup(module)


def is_extended(module: nn.Module) -> bool:
    """Whether BackPACK's hooks hang on a module."""
    return bool(getattr(module, _FLAG, False))


def last_call(module: nn.Module) -> tuple[tuple[Tensor, ...], Tensor] | None:
    """Inputs and output of an extended module's last call, as BackPACK keeps them until a backward pass has come by.

    Args:
        module: The module; ``None`` comes back if it is not extended, or was not called since.
    """
    output = vars(module).get("output")
    if not is_extended(module) or not isinstance(output, Tensor):
        return None
    inputs: list[Tensor] = []
    while isinstance(kept := vars(module).get(f"input{len(inputs)}"), Tensor):
        inputs.append(kept)
    return tuple(inputs), output


def silent_extensions() -> AbstractContextManager[None]:
    """A context in which backward passes run no extension of BackPACK, and clear nothing that it keeps."""
    if "backpack" not in sys.modules:
        return nullcontext()
    from backpack import backpack

    context: AbstractContextManager[None] = backpack(retain_graph=True)
    return context


def _require_extensible(module: nn.Module) -> None:
    name = type(module).__name__
    if getattr(module, "inplace", False) is True:
        raise ValueError(f"BackPACK cannot extend {name}(inplace=True): give it inplace=False")
    taken = [attribute for attribute in _KEPT if hasattr(module, attribute)]
    if taken:
        raise ValueError(
            f"BackPACK cannot extend {name}: it keeps tensors in the attribute {taken[0]!r}, which {name} has already"
        )
