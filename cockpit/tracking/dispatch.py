"""Two ways to make a cockpit: of a model, and, as in the earlier package of the same name, of parameters."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn


class Dispatched:
    """Base of the cockpit: its direct subclass, given parameters in place of a model, makes the other kind.

    That one is no instance of it: see :mod:`cockpit.compat`.
    """

    def __init_subclass__(cls) -> None:
        # Else the arguments that help and editors show would be those of __new__.
        signature = inspect.signature(cls.__init__)
        cls.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]

    def __new__(cls, model: object = None, *args: Any, **options: Any) -> Any:
        """Makes what the arguments ask for."""
        if Dispatched in cls.__bases__ and (watched := _parameters(model, *args, **options)) is not None:
            from cockpit.compat import ParameterCockpit

            return ParameterCockpit(watched, *args, **options)
        return super().__new__(cls)


def _parameters(model: object, second: object = None, *_: object, **options: object) -> list[Any] | None:
    """Parameters that stand in place of a model; ``None`` if there is one, or what can only be meant as one."""
    beside_a_model = "optimizer" in options or not (second is None or isinstance(second, (list, tuple)))
    if isinstance(model, (nn.Module, str, Mapping)) or not isinstance(model, Iterable) or beside_a_model:
        return None
    return list(model)
