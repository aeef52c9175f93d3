"""The strip on top: what a run is doing, in a few words each."""

from __future__ import annotations

import math
from collections.abc import Mapping

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from cockpit.dashboard.page import Page
from cockpit.dashboard.theme import number, shorten
from cockpit.store import Event

STATE_COLOURS = {"running": "teal", "finished": "blue", "interrupted": "orange", "crashed": "red", "unreadable": "red"}
LOSS, OVERHEAD = "loss", "cockpit.overhead"
MOST_EVENTS = 30  # listed


def strip(page: Page) -> list[Component]:
    """State, step, loss, overhead, coverage, and what went wrong."""
    _, last = page.span
    step = f"{last:,}" if page.step is None else f"{page.step:,} of {last:,}"
    loss = page.source.scalar_at(LOSS, page.step)
    overhead = page.source.scalar_at(OVERHEAD, page.step)
    facts = [
        ("step", step if page.source.series else "–"),
        ("loss", "–" if loss is None else number(loss)),
        ("overhead", "–" if overhead is None or not math.isfinite(overhead) else f"{overhead:+.0%}".replace("%", " %")),
        ("coverage", coverage(page.source.document("coverage"))),
    ]
    state = dmc.Badge(page.source.state, color=STATE_COLOURS.get(page.source.state, "gray"), variant="light")
    return [state, *(_fact(name, value) for name, value in facts if value), *_alerts(page.source.events)]


def _fact(name: str, value: str) -> Component:
    return html.Span([html.Span(name, className="name"), html.B(value)], className="fact", id=f"fact-{name}")


def coverage(document: object) -> str:
    """Which share of the parameters is seen; empty if the run does not say."""
    if not isinstance(document, Mapping):
        return ""
    covered = document.get("share")
    if isinstance(covered, (int, float)) and 0 <= covered <= 1:
        return f"{covered:.1%} of parameters".replace(".0%", "%").replace("%", " %")
    return ""


def _alerts(events: list[Event]) -> list[Component]:
    """How many errors and warnings there are, and on a click the last of them."""
    alerts = [event for event in events if event.kind in ("error", "warning")]
    if not alerts:
        return []
    errors = sum(event.kind == "error" for event in alerts)
    counts = [(errors, "error"), (len(alerts) - errors, "warning")]
    label = ", ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in counts if count)
    rows = [html.Li(_said(event), className=event.kind) for event in alerts[: -MOST_EVENTS - 1 : -1]]
    return [html.Details([html.Summary(label), html.Ul(rows)], className="alerts", id="alerts")]


def _said(event: Event) -> str:
    where = "" if event.step is None else f"step {event.step:,}: "
    subject = f"{event.subject}: " if event.subject else ""
    return f"{where}{subject}{shorten(event.text, 400)}"
