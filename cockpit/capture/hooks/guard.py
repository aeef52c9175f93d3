"""Hooks of ours in the user's forward and backward passes, where an error of ours must not stop the training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from cockpit.capture.hooks.undisturbed import aside

Hook = TypeVar("Hook", bound=Callable[..., Any])


class Guard:
    """Wraps hooks: what they do is not recorded, and an error is reported while training goes on.

    Args:
        on_failure: Told of the error.
    """

    def __init__(self, on_failure: Callable[[Exception], None]) -> None:
        self._on_failure = on_failure

    def __call__(self, hook: Hook) -> Hook:
        """The hook, wrapped; whatever it returns is dropped."""

        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                with aside():
                    hook(*args, **kwargs)
            except Exception as error:
                self._on_failure(error)

        return guarded  # type: ignore[return-value]
