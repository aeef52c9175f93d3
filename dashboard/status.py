"""The strip on top: what a run is doing, in a few words each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from cockpit.dashboard.downloads import downloads
from cockpit.dashboard.page import Page
from cockpit.dashboard.theme import number, shorten
from cockpit.schedule import describe, every
from cockpit.store import Event

STATE_COLOURS = {"running": "teal", "finished": "blue", "interrupted": "orange", "crashed": "red", "unreadable": "red"}
LOSS, OVERHEAD, INTERVAL, COST = "loss", "cockpit.overhead", "cockpit.interval", "cockpit.cost"
MOST_EVENTS = 30  # listed


def strip(page: Page) -> list[Component]:
    """State, step, loss, what the log had no room for, overhead, coverage, and what went wrong."""
    _, last = page.span
    step = f"{last:,}" if page.step is None else f"{page.step:,} of {last:,}"
    loss = page.source.scalar_at(LOSS, page.step)
    facts = [
        ("step", step if page.source.series else "–"),
        ("loss", "–" if loss is None else number(loss)),
        *([("dropped", f"{page.source.dropped:,} readings")] if page.source.dropped else []),
    ]
    state = dmc.Badge(page.source.state, color=STATE_COLOURS.get(page.source.state, "gray"), variant="light")
    covered = coverage(page.source.document("coverage"))
    known = [*(_fact(name, value) for name, value in facts), overhead(page), *covered]
    return [state, *known, *processes(page), *_alerts(page.source.happened.alarms), downloads(page)]


def _fact(name: str, value: str, aside: str = "") -> Component:
    """A fact; what is said ``aside`` is left out where there is little room."""
    said = [html.B(aside, className="aside")] if aside else []
    return html.Span([html.Span(name, className="name"), html.B(value), *said], className="fact", id=f"fact-{name}")


def processes(page: Page) -> list[Component]:
    """How many processes train the run; on a click how each of them is, with a link to what it read."""
    states = page.source.states
    rows: list[Component] = [
        html.Li([html.A(html.B(f"rank {rank}"), href=f"?{urlencode(_process(page, rank))}"), html.Span(state)])
        for rank, state in states.items()
    ]
    return [_unfolding(_fact("processes", f"{len(states)}"), rows, "processes")] if rows else []


def _process(page: Page, rank: int) -> dict[str, str]:
    return {"run": f"{page.run}/rank{rank}" if rank else page.run, "view": page.view}


def overhead(page: Page) -> Component:
    """What the run's instruments cost; on a click how often each of them is read at the step, and what that costs."""
    share = page.source.scalar_at(OVERHEAD, page.step)
    fact = _fact("overhead", "–" if share is None or not math.isfinite(share) else _percent(share))
    intervals, costs = (page.source.layers_at(key, page.step) for key in (INTERVAL, COST))
    settings = page.source.header.instruments
    names = sorted(settings, key=lambda name: (intervals.get(name, math.inf), name))
    rows: list[Component] = [
        html.Li(
            [html.B(name), *(html.Span(words) for words in pace(settings[name], intervals.get(name), costs.get(name)))]
        )
        for name in names
    ]
    return _unfolding(fact, rows, "paces") if rows else fact


def pace(settings: object, interval: float | None, cost: float | None) -> tuple[str, str]:
    """How often an instrument is read and what that costs a time: as the budget has it now, or as it was set."""
    if interval is None or interval < 1:
        return str(settings.get("interval", "")) if isinstance(settings, Mapping) else "", ""
    often = describe(every(int(interval)))
    return often, "" if cost is None else f"+{cost:.2g} steps"


def _percent(share: float) -> str:
    return f"{share:+.0%}".replace("%", " %")


def coverage(document: object) -> list[Component]:
    """Which share of the parameters individual gradients cover; on a click which are left out, and why."""
    if not isinstance(document, Mapping) or not _is_finite(document.get("share")):
        return []
    covered = f"{math.floor(100 * document['share'])} %"  # 100 % is said only of all of them
    left_out = document.get("left_out")
    rows = [f"{name}: {reason}" for name, reason in left_out.items()] if isinstance(left_out, Mapping) else []
    rows = _routes(document.get("routes")) + rows
    if document.get("coupled"):
        rows.append(
            "Samples reach each other, as in batch normalisation: an individual gradient is the sample's contribution "
            "through its own activations."
        )
    fact = _fact("coverage", covered, "of parameters")
    return [_unfolding(fact, rows, "coverage")] if rows else [fact]


def _is_finite(share: object) -> bool:
    return isinstance(share, (int, float)) and math.isfinite(share)


def _routes(shares: object) -> list[str]:
    """How the individual gradients came about, where not all of them came from calls of modules."""
    if not isinstance(shares, Mapping) or not set(shares) - {"modules"}:
        return []
    ways = {
        "modules": "from calls of modules",
        "graph": "where the graph uses them",
        "vmap": "by calling modules again",
    }
    read = ", ".join(f"{share:.2%} {ways.get(route, route)}".replace("%", " %") for route, share in shares.items())
    return [f"Read of the parameters: {read}."]


def _unfolding(summary: Component | str, rows: Sequence[str | Component], name: str) -> Component:
    items = [row if isinstance(row, Component) else html.Li(row) for row in rows]
    return html.Details([html.Summary(summary), html.Ul(items)], className=f"unfolding {name}", id=name)


def _alerts(alerts: list[Event]) -> list[Component]:
    """How many errors and warnings there are, and on a click the last of them."""
    if not alerts:
        return []
    errors = sum(event.kind == "error" for event in alerts)
    counts = [(errors, "error"), (len(alerts) - errors, "warning")]
    label = ", ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in counts if count)
    rows = [html.Li(_said(event), className=event.kind) for event in alerts[: -MOST_EVENTS - 1 : -1]]
    return [_unfolding(label, rows, "alerts")]


def _said(event: Event) -> str:
    where = "" if event.step is None else f"step {event.step:,}: "
    subject = f"{event.subject}: " if event.subject else ""
    return f"{where}{subject}{shorten(event.text, 400)}"
