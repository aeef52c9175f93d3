"""What the table of layers and one layer by itself have in common: their part of the address, and their cards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from cockpit.dashboard.changes import forms_of
from cockpit.dashboard.layout import graph_config, labelled, plot_style
from cockpit.dashboard.page import Page
from cockpit.dashboard.theme import Drawing
from cockpit.drawing.layer_table import grouping_of
from cockpit.layers import By

LAYERS = "Layers"  # the view's name
SCORE, DEPTH = "score", "depth"  # orders of rows beside those by a column
NONE, EVERY = "-", "*"  # further columns: none, or all that there are
FIRST = "first"  # the quantity of the map unless another is chosen


@dataclass(frozen=True)
class Settings:
    """The view's part of the address; what does not fit is left to the view.

    Args:
        grouping: One of :data:`GROUPINGS`.
        sort: :data:`SCORE`, :data:`DEPTH` or a column's id.
        unfolded: Groups whose modules are shown.
        extra: A further column's id, :data:`NONE` or :data:`EVERY`.
        quantity: The id of what the map shows, or :data:`FIRST`.
        layer: The module that is looked at by itself; empty: the table.
        histogram: Which of its histograms is shown, or :data:`FIRST`.
    """

    grouping: By = "position"
    sort: str = SCORE
    unfolded: tuple[str, ...] = ()
    extra: str = NONE
    quantity: str = FIRST
    layer: str = ""
    histogram: str = FIRST

    @classmethod
    def of(cls, more: Mapping[str, str]) -> Settings:
        """From what the address says."""
        grouping = grouping_of(more.get("grouping", ""))
        names = {name: more[name] for name in ("sort", "extra", "quantity", "layer", "histogram") if name in more}
        return cls(grouping, unfolded=_names(more.get("unfolded", "")), **names)


def _names(text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text) if text else []
    except ValueError:
        return ()
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def select(label: str, name: str, default: str, value: str, options: Mapping[str, str]) -> Component:
    """A choice that is kept in the address as ``name``."""
    return html.Label(
        [
            html.Span(label, className="hint"),
            dmc.Select(
                id={"more": name, "default": default},
                data=[{"value": key, "label": words} for key, words in options.items()],
                value=value if value in options else default,
                allowDeselect=False,
                searchable=len(options) > 6,
                limit=200,
                size="xs",
                className="layers-select",
                comboboxProps={"width": "max-content", "position": "bottom-start"},
                **labelled(label),
            ),
        ],
        className="labelled",
    )


def stores(drawings: Mapping[str, Drawing]) -> list[Component]:
    """What the page keeps beside its figures: their forms, and which answer has been drawn."""
    return [dcc.Store(id={"of-layers-forms": LAYERS}, data=forms_of(drawings)), dcc.Store(id={"drawn": LAYERS})]


def figure_card(page: Page, name: str, title: str, how: str, drawing: Drawing) -> Component:
    """A figure of this view with its words."""
    graph = dcc.Graph(
        id={"of-layers-figure": name},
        figure=drawing.figure,
        config=graph_config(page.run, name),
        responsive=True,
        className="graph",
    )
    empty = html.P(drawing.empty, id={"of-layers-empty": name}, className="empty")
    height = plot_style(drawing.height)
    plot = html.Div([graph, empty], id={"of-layers-plot": name}, className="plot", style=height)
    heading = html.Div([html.H3(title), html.P(how, className="how")], className="heading")
    words = html.P(drawing.words, id={"of-layers-words": name}, className="words")
    return html.Section([heading, plot, words], className="panel", **labelled(title))
