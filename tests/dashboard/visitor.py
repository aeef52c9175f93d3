"""Asks for answers as the page does, and reads what is in them."""

import json
from copy import deepcopy
from functools import reduce
from operator import getitem
from typing import Any

from dash import no_update
from dash.development.base_component import Component

from cockpit.dashboard.answer import SOON, answer
from cockpit.dashboard.page import Choice
from cockpit.dashboard.redraw import PARTS
from cockpit.dashboard.sources import Sources
from cockpit.store import Store

SINGLES = ("view", "status", "runs", "tabs", "views", "shown")


class Browser:
    """Asks as the page would, and keeps what the page keeps."""

    def __init__(self, logdir):
        self.sources = Sources(Store(logdir))
        self.shown: dict[str, Any] = {}
        self.on_page: list[str] = []
        self.figures: dict[str, Any] = {}

    def ask(self, list_runs=True, view="Classic", at_leisure=True, **choice) -> dict[str, Any]:
        asked = Choice.from_page({"view": view, **choice})
        told = {"list_runs": list_runs, "at_leisure": at_leisure}
        outputs = answer(self.sources, asked, self.shown, self.on_page, **told)
        found = dict(zip((*PARTS, *SINGLES), outputs, strict=True))
        self.shown = json.loads(json.dumps(found["shown"]))
        for name, figure in zip(self.on_page, found["figure"], strict=True):
            if figure is not no_update:
                self.figures[name] = changed_figure(self.figures[name], figure)
        if found["view"] is not no_update:
            self.figures = {graph.id["panel"]: deepcopy(graph.figure) for graph in parts(found["view"], "figure")}
            self.on_page = list(self.figures)
        return found

    def drawn(self, found) -> list[str]:
        """The panels whose figures an answer changes."""
        return [name for name, figure in zip(self.on_page, found["figure"], strict=True) if figure is not no_update]

    def open(self) -> None:
        """Asks until everything is drawn."""
        while self.ask()["shown"]["next"] == SOON:
            pass


def changed_figure(figure, change):
    """What the page makes of an answer: like a browser, it sets nothing within what is not there."""
    if isinstance(change, dict):
        return deepcopy(change)
    for operation in change.to_plotly_json()["operations"]:
        value = deepcopy(operation["params"]["value"])
        *way, last = operation["location"]
        if operation["operation"] == "Merge":
            reduce(getitem, [*way, last], figure).update(value)
        else:
            assert operation["operation"] == "Assign"
            reduce(getitem, way, figure)[last] = value
    return figure


def parts(children, part):
    components = children if isinstance(children, list) else [children]
    everything = [child for top in components for child in (top, *top._traverse()) if isinstance(child, Component)]
    named = [child for child in everything if isinstance(getattr(child, "id", None), dict)]
    return [child for child in named if child.id.get("part") == part]


def redrawn(found):
    return [figure for figure in found["figure"] if figure is not no_update]


def words(component):
    if isinstance(component, (list, tuple)):
        return " ".join(words(child) for child in component)
    if isinstance(component, Component):
        return words(getattr(component, "children", None))
    return "" if component is None else str(component)
