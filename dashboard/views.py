"""The views that are no screens of a run, in the order of the menu."""

from __future__ import annotations

from cockpit.dashboard.compare import COMPARE
from cockpit.dashboard.layers import VIEW as LAYERS
from cockpit.dashboard.one_panel import PANEL
from cockpit.dashboard.runs import RUNS
from cockpit.dashboard.view import Look as Look
from cockpit.dashboard.view import View as View

VIEWS: dict[str, View] = {view.name: view for view in (LAYERS, PANEL, COMPARE, RUNS)}
