"""What a view of its own is: it builds its part of the page and keeps it up to date by callbacks of its own.

A screen is data that a run brings, and its panels are redrawn by the page's one callback. A view of its own is code:
the table of layers, two runs side by side, the list of runs. It is one file of this folder and one entry in
:data:`cockpit.dashboard.views.VIEWS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dash import Dash
from dash.development.base_component import Component

from cockpit.dashboard.page import Choice, Page
from cockpit.dashboard.sources import Sources


@dataclass(frozen=True)
class Look:
    """What a view is asked to show.

    Args:
        sources: The runs.
        choice: What the reader chose; ``choice.more`` is the view's own part of the address.
        page: The run in question; ``None`` for a view that shows no single run.
    """

    sources: Sources
    choice: Choice
    page: Page | None


@dataclass(frozen=True)
class View:
    """A view with callbacks of its own.

    Args:
        name: As the page's menu and the address call it.
        of_run: Whether it shows one run, at one step: it then gets the page, and the replay bar stands above it.
        identity: Whatever, once it differs, has the view built anew; JSON. What changes more often than a few times an
            hour belongs into the view's own callbacks instead, which listen to ``Input("shown", "data")``: the store
            that tells run, step, cursor, colour scheme and ``more`` of what is shown, whenever the page has looked.
        build: Makes the components.
        register: Adds the view's callbacks, once. A callback of the browser's that writes ``Output("more", "data")``
            changes the view's part of the address; so do links (:mod:`cockpit.dashboard.links`) and controls whose id
            is ``{"more": name, "default": value}``, by themselves.
        panels: Panels of the run whose cards stand in it; the page keeps these as fresh as those of a screen.
    """

    name: str
    of_run: bool
    identity: Callable[[Look], list[Any]]
    build: Callable[[Look], list[Component]]
    register: Callable[[Dash, Sources], None]
    panels: Callable[[Look], Sequence[str]] = lambda look: ()
