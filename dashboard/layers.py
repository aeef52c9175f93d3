"""The view Layers: the table of a run's layers with a map of one quantity over time, and one layer by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from dash import ALL, Dash, Input, Output, State, html, no_update
from dash.development.base_component import Component

from cockpit.dashboard.changes import changes, forms_of
from cockpit.dashboard.heatmap import draw_heatmap
from cockpit.dashboard.layer_data import LayerData, id_of
from cockpit.dashboard.layer_parts import EVERY, FIRST, LAYERS, NONE, Settings, figure_card, select, stores
from cockpit.dashboard.layer_rows import table
from cockpit.dashboard.layout import labelled, plot_style
from cockpit.dashboard.one_layer import drawings_of, one_layer
from cockpit.dashboard.page import Choice, Page, look
from cockpit.dashboard.panels import interval_of
from cockpit.dashboard.scene import Scene
from cockpit.dashboard.source import Source
from cockpit.dashboard.sources import OUT_OF_REACH, Sources
from cockpit.dashboard.theme import Drawing, palette
from cockpit.dashboard.view import Look, View
from cockpit.drawing.cells import AT
from cockpit.drawing.layer_table import GROUPINGS, Row, middles, rows_of
from cockpit.drawing.standing_out import FORMULA
from cockpit.panel import LayerColumn, Panel
from cockpit.store import Column

MAP = "map"
ROW, LONGEST = 20, 28  # pixels of a row in it, and characters of its name


def identity(at: Look) -> list[Any]:
    """Another run, other layers, other quantities, another axis of time, or from the table to one layer."""
    page = _page(at)
    data, settings = LayerData(page.source), Settings.of(page.choice.more)
    fixed = [page.run, page.source.header.created, settings.layer, settings.histogram, page.choice.manner.measure]
    return [*fixed, len(data.modules), sorted(_choices(data))]


def build(at: Look) -> list[Component]:
    """The table and the map, or one layer."""
    page = _page(at)
    data, settings = LayerData(page.source), Settings.of(page.choice.more)
    if settings.layer:
        return one_layer(page, data, settings)
    if not _choices(data):
        return [html.Div(table(page, data, settings), id={"of-layers": "table"}, className="message")]
    map_ = _map(page, data, settings)
    return [
        html.Div(_controls(data, settings), className="bar"),
        html.Div([_table_card(page, data, settings), _map_card(page, map_)], className="screen layers"),
        *stores({MAP: map_}),
    ]


def register(app: Dash, sources: Sources) -> None:
    """Keep table and figures at the page's step."""
    figures = {"of-layers-figure": ALL}

    @app.callback(
        Output({"of-layers": ALL}, "children"),
        Output(figures, "figure"),
        Output({"of-layers-empty": ALL}, "children"),
        Output({"of-layers-words": ALL}, "children"),
        Output({"of-layers-plot": ALL}, "style"),
        Output({"of-layers-forms": ALL}, "data"),
        Output({"drawn": ALL}, "data"),
        Input("shown", "data"),
        State({"of-layers": ALL}, "id"),
        State(figures, "id"),
        State({"of-layers-forms": ALL}, "data"),
        State({"drawn": ALL}, "id"),
        prevent_initial_call=True,
    )
    def refresh(
        shown: dict[str, Any] | None, parts: list[dict[str, str]], graphs: list[dict[str, str]],
        forms: list[dict[str, str]], drawn: list[Any],
    ) -> tuple[list[Any], ...]:  # fmt: skip
        names = [graph["of-layers-figure"] for graph in graphs]
        found = fresh(sources, shown or {}, len(parts), names, forms[0] if forms else {})
        same = [no_update] * len(graphs)
        columns = ([no_update] * len(parts), same, same, same, same, no_update) if found is None else found
        return (*columns[:-1], [columns[-1]] * len(forms), [(shown or {}).get("serial")] * len(drawn))


def fresh(
    sources: Sources, shown: dict[str, Any], tables: int, graphs: Sequence[str], forms: Mapping[str, str]
) -> tuple[Any, ...] | None:
    """What is on the page, at the step that is shown; ``None`` where another view is, or there is no run.

    Args:
        sources: The runs.
        shown: What the page shows.
        tables: How many tables are on it.
        graphs: Names of its figures.
        forms: Their forms, by name.

    Returns:
        Tables; for each figure its changes, what is said where it is empty, its words, and its plot's style; and their
        forms from now on.
    """
    if shown.get("view") != LAYERS:
        return None
    try:
        page = look(sources, Choice.from_page(shown), shown["run"])
    except OUT_OF_REACH:  # the page itself says so
        return None
    data, settings = LayerData(page.source), Settings.of(page.choice.more)
    drawings = _drawings(page, data, settings) if graphs else {}
    there = [(drawings.get(name), forms.get(name)) for name in graphs]
    return ([table(page, data, settings) for _ in range(tables)], *_columns(there), forms_of(drawings))


def _columns(drawings: Sequence[tuple[Drawing | None, str | None]]) -> list[list[Any]]:
    """Figures, what is said where there is nothing, words and styles; nothing for a figure that is no longer there."""
    rows = [
        [no_update] * 4
        if drawing is None
        else [changes(drawing.figure, form), drawing.empty, drawing.words, plot_style(drawing.height)]
        for drawing, form in drawings
    ]
    return [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]


def _drawings(page: Page, data: LayerData, settings: Settings) -> dict[str, Drawing]:
    """The figures on the page, by name."""
    return drawings_of(page, data, settings) if settings.layer else {MAP: _map(page, data, settings)}


def _page(at: Look) -> Page:
    assert at.page is not None, "this view shows a run"
    return at.page


def _choices(data: LayerData) -> dict[str, LayerColumn]:
    """All quantities by id, the declared ones first."""
    declared, others = data.columns()
    return declared | others


def _controls(data: LayerData, settings: Settings) -> list[Component]:
    declared, others = data.columns()
    first, quantities = _first(declared | others)
    extra = {NONE: "no further column"} | {id: column.title for id, column in others.items()} | {EVERY: "all of them"}
    groupings = {str(name): words for name, words in GROUPINGS.items()}
    return [
        select("Rows", "grouping", "position", settings.grouping, groupings),
        *([select("Further columns", "extra", NONE, settings.extra, extra)] if declared and others else []),
        select("Map of", "quantity", FIRST, FIRST if settings.quantity == first else settings.quantity, quantities),
    ]


def _first(columns: Mapping[str, LayerColumn]) -> tuple[str, dict[str, str]]:
    """The id of the first column, and what the map has a choice of, in which it is :data:`FIRST`."""
    titles = {id: column.title for id, column in columns.items()}
    first = next(iter(titles))
    return first, {FIRST: titles.pop(first)} | titles


def _table_card(page: Page, data: LayerData, settings: Settings) -> Component:
    how = (
        "A bar is a layer's value, of folded layers the median, with a line from the lowest to the highest. ◆ stands "
        "out from its neighbours or from its own past. A click on a layer opens it, on a heading sorts."
    )
    formula = html.Details([html.Summary("How far a layer stands out"), html.P(FORMULA, className="how")])
    return html.Section(
        [
            html.Div([html.H3("Layers"), html.P(how, className="how")], className="heading"),
            html.Div(table(page, data, settings), id={"of-layers": "table"}, className="scrolling"),
            formula,
        ],
        className="panel",
        **labelled("Layers"),
    )


def _map_card(page: Page, drawing: Drawing) -> Component:
    how = "A row is a layer, in the order of the forward pass: look for rows that part from their neighbours, and when."
    return figure_card(page, MAP, "One quantity of all layers", how, drawing)


def _map(page: Page, data: LayerData, settings: Settings) -> Drawing:
    """The chosen quantity of the table's rows, in depth order, over time."""
    choices = _choices(data)
    if not choices:
        return Drawing({"data": [], "layout": {}})
    column = choices.get(settings.quantity) or next(iter(choices.values()))
    rows = [row for block in rows_of(data.modules, data.owners, settings.grouping, settings.unfolded) for row in block]
    scene = _scene(page, data, column, rows)
    drawing = draw_heatmap(scene, most_names=len(rows), row=ROW, name=LONGEST)
    drawing.figure["layout"]["uirevision"] = f"{page.run} {page.source.header.created} {id_of(column)}"
    return drawing


def _scene(page: Page, data: LayerData, column: LayerColumn, rows: Sequence[Row]) -> Scene:
    id, source = id_of(column), page.source
    reading = data.reading(column, page.step)
    values = middles(rows, np.where(reading.missing, np.nan, reading.values))
    names = tuple(row.name for row in rows)
    now = Column(id + AT, "layers", reading.steps, reading.times, values, np.isnan(values), names)
    over_time = data.over_time(column, rows)
    empty = over_time is None or bool(over_time.missing.all())
    columns = {} if over_time is None or empty else {id: over_time, id + AT: now}
    return Scene(
        Panel(title=column.title, kind="heatmap", how_to_read="", ylabel=column.title),
        (id,),
        columns,
        page.step,
        source.happened.ticks,
        palette(page.choice.scheme),
        log=column.scale == "log",
        clock=_promise(column, source, read=over_time is not None) if empty else "",
        timeline=source.timeline(page.choice.manner.measure, page.choice.manner.zone),
    )


def _promise(column: LayerColumn, source: Source, *, read: bool) -> str:
    """Why the map of a quantity has nothing to show, and when it will; ``read``: whether it was, but was missing."""
    if read:
        return f"{column.title} is missing in all layers at every step so far."
    keys = [key for key in (column.key, column.over) if key]
    if source.state != "running":
        return f"{column.title} has no value: {' and '.join(keys)} were read at no step in common."
    words = [f"{key} ({when})" if (when := interval_of(key, source)) else key for key in keys]
    return f"{column.title} appears with the first step at which {' and '.join(words)} are both read."


VIEW = View(LAYERS, of_run=True, identity=identity, build=build, register=register)
