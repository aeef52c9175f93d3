"""Tables of the view Compare: where runs part, and what was set differently. All text stays text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from dash import html
from dash.development.base_component import Component

from cockpit.comparing.comparison import Finding, Ranking, Setting, settings_of
from cockpit.dashboard.side_by_side import Compared
from cockpit.dashboard.theme import number, shorten

FIRST_ROWS = 12  # of a ranking, which are seen at once
MOST_ROWS = 200  # which unfold
FIRST_SETTINGS = 20  # that differ, which are seen at once
MOST_NOISES = 1000.0  # beyond which a number says no more
LONGEST = 200  # characters of a value


def card(title: str, content: Sequence[Component]) -> Component:
    """A panel of the page."""
    spoken: dict[str, Any] = {"aria-label": title}
    return html.Section(list(content), className="panel", **spoken)


def parting_table(compared: Compared, pair: tuple[str, str], known: tuple[int, Ranking] | None) -> Component:
    """Quantities and layers by the step from which on two runs stay apart."""
    title = f"First divergence of {shorten(pair[0], 40)} and {shorten(pair[1], 40)}"
    how = "From which step on they stay apart beyond their own noise: look for several quantities of one layer on top."
    heading = html.Div([html.H3(title), html.P(how, className="how")], className="heading")
    if known is None:
        content: list[Component] = [html.P("Comparing all quantities and layers …", className="words")]
    else:
        content = _ranking(compared, known[1])
    return card(title, [heading, *content])


def _ranking(compared: Compared, ranking: Ranking) -> list[Component]:
    if ranking.until is None:
        return [html.P("Too few readings that both have; the ranking appears with more of them.", className="words")]
    rest = f"{ranking.together} quantities and layers are not apart beyond noise up to step {ranking.until:,}."
    if not ranking.apart:
        return [html.P(f"These runs stay together: {rest}", className="words")]
    rows = [_row(compared, finding) for finding in ranking.apart[:MOST_ROWS]]
    more = len(ranking.apart) - len(rows)
    cut = f" {more} more are in the text of: cockpit diff A B --top 0." if more else ""
    content = [_partings(rows[:FIRST_ROWS])]
    if len(rows) > FIRST_ROWS:
        content.append(
            html.Details([html.Summary(f"{len(rows) - FIRST_ROWS} later ones"), _partings(rows[FIRST_ROWS:])])
        )
    return [*content, html.P(rest + cut, className="words")]


def _partings(rows: Sequence[Component]) -> Component:
    head = html.Tr([html.Th(name) for name in ("from step", "quantity", "layer", "times the noise", "by chance")])
    table = html.Table([html.Thead(head), html.Tbody(list(rows))], className="partings")
    return html.Div(table, className="scrolling")


def _row(compared: Compared, finding: Finding) -> Component:
    key = f"{finding.key}[{finding.layer}]" if finding.layer else finding.key
    name: str | Component = finding.name
    if key in compared.available:  # histograms and what is logged otherwise have no curve
        query = {"view": "Compare", "runs": "|".join(compared.names), "key": key}
        name = html.A(finding.name, href="?" + urlencode(query))
    noises = finding.verdict.noises
    far = number(noises) if math.isfinite(noises) and noises < MOST_NOISES else f"over {MOST_NOISES:,.0f}"
    first = html.Span(" the first", className="name") if finding.verdict.from_start else ""
    cells = [[f"{finding.step:,}", first], name, finding.layer, far, finding.odds]
    return html.Tr([html.Td(cell) for cell in cells])


def settings_table(compared: Compared) -> list[Component]:
    """What was set differently, and on a click all the rest."""
    names = list(compared.runs)
    if len(names) < 2:
        return []
    settings = settings_of([compared.runs[name].header for name in names])
    different = [setting for setting in settings if setting.differs]
    same = settings[len(different) :]
    heading = html.Div(
        [html.H3("Settings"), html.P("What differs between the runs; the rest unfolds.", className="how")],
        className="heading",
    )
    content: list[Component] = [html.P("Nothing was set differently.", className="words")]
    if different:
        content = _folded(compared, names, different)
    if same:
        summary = html.Summary(f"{len(same)} settings are the same")
        content.append(html.Details([summary, _table(compared, names[:1], same)]))
    return [card("Settings", [heading, *content])]


def _folded(compared: Compared, names: Sequence[str], different: Sequence[Setting]) -> list[Component]:
    """The first of what differs, and on a click the others."""
    content = [_table(compared, names, different[:FIRST_SETTINGS])]
    if others := different[FIRST_SETTINGS:]:
        summary = html.Summary(f"{len(others)} more are different")
        content.append(html.Details([summary, _table(compared, names, others)]))
    return content


def _table(compared: Compared, names: Sequence[str], settings: Sequence[Setting]) -> Component:
    swatches = [html.Span(className="swatch", style=compared.sample(name)) for name in names]
    titles = [html.Th([swatch, shorten(name, 40)]) for swatch, name in zip(swatches, names, strict=True)]
    head = html.Tr([html.Th("section"), html.Th("setting"), *(titles if len(names) > 1 else [html.Th("all runs")])])
    rows = [
        html.Tr(
            [
                html.Td(setting.section),
                html.Td(setting.name),
                *(html.Td("–" if value is None else shorten(value, LONGEST)) for value in setting.values[: len(names)]),
            ]
        )
        for setting in settings
    ]
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="settings")
    return html.Div(table, className="scrolling")
