"""Hooks that stay behind when a model is copied or saved in the middle of a tracked step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class ModuleHook:
    """A module hook. In a copy of the module, or one read back from a file, it does nothing and holds nothing.

    Args:
        function: What is to be called.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the function itself."""
        return self._function(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return nothing

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return _nothing, ()


def nothing(*args: Any, **kwargs: Any) -> None:
    """What is left of a hook."""


def _nothing() -> Callable[..., None]:
    return nothing
