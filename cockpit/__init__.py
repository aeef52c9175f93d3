"""Cockpit: a training debugger for PyTorch.

Public names are imported when they are first used, so that reading a log or serving a dashboard never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cockpit.instrument import Instrument as Instrument
    from cockpit.instrument import register as register
    from cockpit.notebook import show as show
    from cockpit.panel import Panel as Panel
    from cockpit.plotter import CockpitPlotter as CockpitPlotter
    from cockpit.reading import Histogram as Histogram
    from cockpit.reading import Histogram2d as Histogram2d
    from cockpit.reading import Reading as Reading
    from cockpit.run import Run as Run
    from cockpit.run import list_runs as list_runs
    from cockpit.run import load_run as load_run
    from cockpit.schedule import every as every
    from cockpit.schedule import log_spaced as log_spaced
    from cockpit.session import Cockpit as Cockpit
    from cockpit.tracking.notices import CockpitWarning as CockpitWarning

__version__ = "0.1.0"

_HOMES = {
    "Cockpit": "cockpit.session",
    "CockpitPlotter": "cockpit.plotter",
    "CockpitWarning": "cockpit.tracking.notices",
    "Histogram": "cockpit.reading",
    "Histogram2d": "cockpit.reading",
    "Instrument": "cockpit.instrument",
    "Panel": "cockpit.panel",
    "Reading": "cockpit.reading",
    "Run": "cockpit.run",
    "every": "cockpit.schedule",
    "list_runs": "cockpit.run",
    "load_run": "cockpit.run",
    "log_spaced": "cockpit.schedule",
    "register": "cockpit.instrument",
    "show": "cockpit.notebook",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cockpit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
