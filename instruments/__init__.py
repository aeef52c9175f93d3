"""The instruments. Each is one file; importing this package registers all of them.

``from cockpit.instruments import NormTest`` gives the class of the instrument logged as ``norm_test``.
"""

from __future__ import annotations

import importlib
import pkgutil

from cockpit.instrument import Instrument

if __name__ != "cockpit.instruments":
    raise ImportError(
        f"this folder is the package 'cockpit.instruments', but was imported as {__name__!r}: a second copy of every "
        "instrument would be registered. Import it through cockpit."
    )

_CLASSES: dict[str, type[Instrument]] = {}
for _module in pkgutil.iter_modules(__path__):
    for _object in vars(importlib.import_module(f"{__name__}.{_module.name}")).values():
        if isinstance(_object, type) and issubclass(_object, Instrument) and _object.__module__.startswith(__name__):
            _CLASSES[_object.__name__] = _object

__all__ = sorted(_CLASSES)


def __getattr__(name: str) -> type[Instrument]:
    try:
        return _CLASSES[name]
    except KeyError:
        raise AttributeError(f"there is no instrument class {name!r}; there are: {', '.join(__all__)}") from None


def __dir__() -> list[str]:
    return __all__
