"""The view of one panel in full: its drawing, what it shows and where that comes from, its keys, its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from cockpit.dashboard.facts import events_of, keys_of_panel, last_reading, settings_of
from cockpit.dashboard.layout import IN_FULL, card, labelled, message
from cockpit.dashboard.links import link
from cockpit.dashboard.page import Choice, Page, look
from cockpit.dashboard.sources import OUT_OF_REACH, Sources
from cockpit.dashboard.view import Look, View
from cockpit.drawing.explanation import Words, words_of_panel
from cockpit.drawing.formula import equations, is_tex


def panel_of(page: Page) -> str | None:
    """The name of the panel that the address asks for, by default the view's first; ``None`` if there is none."""
    names = [*page.arrangement.names, *page.source.header.panels]
    return page.choice.more.get("panel") or next(iter(names), None)


def identity(at: Look) -> list[Any]:
    """Another run or another panel."""
    page = _page(at)
    return [page.run, page.source.header.created, panel_of(page)]


def panels(at: Look) -> list[str]:
    """The one panel."""
    name = panel_of(_page(at))
    return [name] if name is not None and name in _page(at).source.header.panels else []


def build(at: Look) -> list[Component]:
    """The drawing, and beside it everything there is to say."""
    page = _page(at)
    name = panel_of(page)
    if name is None:
        return [message("This run declares no panels, so there is nothing to draw.")]
    back = link("← Back", page, page.view, {"panel": None}, className="back")
    bar = html.Div([back, _picker(page, name), html.Span("Escape returns", className="hint")], className="bar")
    if name not in page.source.header.panels:
        return [bar, message(f"This run has no panel called “{name}”. Choose one above.")]
    words = html.Div(_explained(page, name), className="panel explained")
    facts = html.Div(_facts(page, name), id={"of-panel": "facts"}, className="panel facts")
    return [bar, html.Div([card(page, name, in_full=True), words, facts], className="screen in-full")]


def register(app: Dash, sources: Sources) -> None:
    """Keep readings and events fresh; the drawing is the page's own."""

    @app.callback(Output({"of-panel": ALL}, "children"), Input("shown", "data"), State({"of-panel": ALL}, "children"))
    def refresh(shown: dict[str, Any] | None, there: list[Any]) -> list[Any]:
        if not there or not shown or shown.get("view") != IN_FULL:
            return [no_update] * len(there)
        try:
            page = look(sources, Choice.from_page(shown), shown["run"])
        except OUT_OF_REACH:  # the page itself says so
            return [no_update] * len(there)
        name = panel_of(page)
        known = name is not None and name in page.source.header.panels
        return [_facts(page, name) if known and name else no_update] * len(there)


def _page(at: Look) -> Page:
    assert at.page is not None, "this view shows a run"
    return at.page


def _picker(page: Page, name: str) -> Component:
    options = [{"value": key, "label": panel.title or key} for key, panel in page.source.header.panels.items()]
    first = next(iter([*page.arrangement.names, *page.source.header.panels]))
    picker: Component = dmc.Select(
        id={"more": "panel", "default": first},
        data=options,
        value=name if name in page.source.header.panels else None,
        allowDeselect=False,
        searchable=True,
        size="xs",
        className="panel-select",
        **labelled("Panel"),
    )
    return picker


def _explained(page: Page, name: str) -> list[Component]:
    """What it shows, how to read it, what good and bad look like, and its source."""
    found = words_of_panel(name, page.source.header.panels)
    if not found:
        hint = "Its instrument says no more about it: formula=, good=, bad= and source= of its Panel stand here."
        return [html.H3("About"), html.P(hint, className="how")]
    return [part for words in found for part in _said(words, headed=len(found) > 1)]


def _said(words: Words, *, headed: bool) -> list[Component]:
    parts: list[Component] = [html.H3(words.title if headed else "What it shows")]
    parts += [formula(equation) for equation in equations(words.formula)]
    entries = {"How to read it": words.how_to_read, "Good": words.good, "Bad": words.bad, "Source": words.source}
    return [*parts, _pairs({term: text for term, text in entries.items() if text})]


def formula(equation: str) -> Component:
    """One equation: set where it is TeX that does nothing but set symbols, else the text that it is."""
    if not is_tex(equation):
        return html.Code(equation, className="formula")
    tex: Component = dcc.Markdown(f"$$\n{equation}\n$$", mathjax=True, className="formula")
    return tex


def _facts(page: Page, name: str) -> list[Component]:
    """The instruments' settings, the last value of every key, and what happened."""
    parts: list[Component] = []
    for instrument, settings in settings_of(page, name).items():
        parts += [html.H3(f"Instrument {instrument}"), _pairs(settings)]
    at = "now" if page.step is None else f"up to step {page.step:,}"
    parts += [html.H3(f"Readings, {at}"), _readings(page, keys_of_panel(page, name))]
    events = events_of(page, name)
    said = [html.Li(text, className=kind) for kind, text in events] or [html.Li("Nothing has happened.")]
    return [*parts, html.H3("Events"), html.Ul(said, className="events")]


def _pairs(entries: Mapping[str, str]) -> Component:
    return html.Dl([part for term, text in entries.items() for part in (html.Dt(term), html.Dd(text))])


def _readings(page: Page, keys: Sequence[str]) -> Component:
    if not keys:
        return html.P("Nothing has been logged yet.", className="how")
    head = html.Thead(html.Tr([html.Th(name) for name in ("key", "last value", "at step", "points")]))
    rows = [html.Tr([html.Td(html.Code(row.key)), html.Td(row.value), html.Td(row.step), html.Td(row.points)])
            for key in keys for row in last_reading(page, key)]  # fmt: skip
    return html.Div(html.Table([head, html.Tbody(rows)], className="readings"), className="scrolling")


PANEL = View(IN_FULL, of_run=True, identity=identity, build=build, register=register, panels=panels)
