"""Asks for answers as the page does, and reads what is in them."""

import json
from typing import Any

from dash import no_update
from dash.development.base_component import Component

from cockpit.dashboard.callbacks import PARTS, SOON, answer
from cockpit.dashboard.page import Choice
from cockpit.dashboard.source import Sources
from cockpit.store import Store

SINGLES = ("view", "status", "runs", "tabs", "views", "shown", "interval", "max_intervals")


class Browser:
    """Asks as the page would, and keeps what the page keeps."""

    def __init__(self, logdir):
        self.sources = Sources(Store(logdir))
        self.shown: dict[str, Any] = {}
        self.on_page: list[str] = []

    def ask(self, list_runs=True, view="Classic", **choice) -> dict[str, Any]:
        outputs = answer(
            self.sources, Choice.from_page({"view": view, **choice}), self.shown, self.on_page, list_runs=list_runs
        )
        found = dict(zip((*PARTS, *SINGLES), outputs, strict=True))
        self.shown = json.loads(json.dumps(found["shown"]))
        if found["view"] is not no_update:
            self.on_page = [card["panel"] for card in ids(found["view"], "figure")]
        return found

    def open(self) -> None:
        """Asks until everything is drawn."""
        while self.ask()["interval"] == SOON:
            pass


def ids(children, part):
    components = children if isinstance(children, list) else [children]
    everything = [child for top in components for child in (top, *top._traverse()) if isinstance(child, Component)]
    found = [getattr(child, "id", None) for child in everything]
    return [id for id in found if isinstance(id, dict) and id.get("part") == part]


def redrawn(found):
    return [figure for figure in found["figure"] if figure is not no_update]


def words(component):
    if isinstance(component, (list, tuple)):
        return " ".join(words(child) for child in component)
    if isinstance(component, Component):
        return words(getattr(component, "children", None))
    return "" if component is None else str(component)
