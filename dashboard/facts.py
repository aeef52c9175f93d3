"""What a run's log holds about one panel: its instruments' settings, its keys' last values, its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cockpit.dashboard.page import Page
from cockpit.dashboard.status import COST, INTERVAL, pace
from cockpit.dashboard.theme import number, shorten
from cockpit.drawing.arrange import keys_of
from cockpit.store import Column

MOST_EVENTS = 40  # listed, the latest
MOST_KEYS = 60


@dataclass(frozen=True)
class Last:
    """The last reading of a series, in words.

    Args:
        key: Log key.
        value: What it was.
        step: When.
        points: How many there are in all.
    """

    key: str
    value: str
    step: str
    points: str


def keys_of_panel(page: Page, name: str) -> list[str]:
    """The panel's keys that have points, each followed by its parts; with the user's metrics where these join it."""
    panel = page.panel(name)
    logged = page.source.keys()
    users = page.source.keys("user")[:MOST_KEYS] if panel.user_metrics else []
    found = [
        entry
        for key in (*keys_of(name, panel), *users)
        for entry in logged
        if entry == key or entry.startswith(f"{key}.")
    ]
    return list(dict.fromkeys(found))[:MOST_KEYS]


def last_reading(page: Page, key: str) -> list[Last]:
    """The last reading of each of the key's series at or before the selected step."""
    rows = []
    for kind in page.source.kinds(key):
        column = page.source.at(key, kind, page.step)
        points = f"{page.source.series[key, kind].points:,}"
        if column is None or not len(column.steps):
            rows.append(Last(key, "none so early", "–", points))
        else:
            rows.append(Last(key, _value(column), f"{int(column.steps[0]):,}", points))
    return rows


def _value(column: Column) -> str:
    """One point in words."""
    values, missing = column.values[0], column.missing[0]
    if column.kind == "arrays":
        return "arrays, which no panel draws"
    if column.kind == "scalar":
        return "missing" if missing else number(float(values))
    if column.kind == "layers":
        known = values[~missing]
        finite = known[np.isfinite(known)]
        if not len(finite):
            return f"{len(values)} layers, none with a value"
        low, middle, high = (number(float(end)) for end in (finite.min(), np.median(finite), finite.max()))
        return f"{len(values)} layers, {low} to {high}, median {middle}"
    if column.kind.startswith("layer"):
        return f"{len(column.layers)} layers, {int(values.sum()):,} elements"
    return "missing" if missing else f"{int(values.sum()):,} elements"


def settings_of(page: Page, name: str) -> dict[str, dict[str, str]]:
    """For each instrument that the panel's keys come from: how often it is read, and what it was set to."""
    declared = page.source.header.instruments
    names = dict.fromkeys(key.split(".", 1)[0] for key in (*keys_of(name, page.panel(name)), name))
    intervals, costs = (page.source.layers_at(key, page.step) for key in (INTERVAL, COST))
    found = {}
    for instrument in names:
        if instrument in declared:
            settings = declared[instrument]
            often, cost = pace(settings, intervals.get(instrument), costs.get(instrument))
            own = settings.get("settings") if isinstance(settings, Mapping) else None
            set_to = {str(key): _setting(value) for key, value in own.items()} if isinstance(own, Mapping) else {}
            found[instrument] = {"read": often or "–", **({"cost of a reading": cost} if cost else {}), **set_to}
    return found


def _setting(value: object) -> str:
    return "not set" if value is None else shorten(str(value), 80)


def events_of(page: Page, name: str) -> list[tuple[str, str]]:
    """Kind and words of the panel's events up to the selected step, the latest first."""
    concerned = {name, *(key.split(".", 1)[0] for key in keys_of(name, page.panel(name)))}
    return [
        (event.kind, f"{'' if event.step is None else f'Step {event.step:,}: '}{shorten(event.text, 400)}")
        for event in reversed(page.source.events)
        if event.subject in concerned and (page.step is None or event.step is None or event.step <= page.step)
    ][:MOST_EVENTS]
