"""The table of layers: a row for each module or group of modules, a small bar for each of its quantities."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component
from numpy.typing import NDArray

from cockpit.dashboard.layer_data import LayerData, Quantity
from cockpit.dashboard.layer_parts import DEPTH, EVERY, LAYERS, SCORE, Settings
from cockpit.dashboard.links import link
from cockpit.dashboard.page import Page
from cockpit.dashboard.panels import interval_of
from cockpit.dashboard.theme import number, shorten
from cockpit.drawing.layer_table import (
    Cell,
    Extent,
    Row,
    cell,
    order_by_score,
    order_by_value,
    rows_of,
)
from cockpit.drawing.standing_out import STANDS_OUT, Scores, scores
from cockpit.panel import LayerColumn

MOST_ROWS = 300
MOST_COLUMNS = 40


@dataclass(frozen=True)
class Shown:
    """A column at the selected step.

    Args:
        id: Its name in the address.
        column: What it is.
        values: By module; NaN where missing. Shape ``[L]``.
        scores: How far the modules stand out.
        extent: Where its bars begin and end.
        cells: What rows show of it, as far as it was asked for.
    """

    id: str
    column: LayerColumn
    values: NDArray[np.float64]
    scores: Scores
    extent: Extent
    cells: dict[Row, Cell] = field(default_factory=dict)

    def cell(self, row: Row) -> Cell:
        """What ``row`` shows of it."""
        if row not in self.cells:
            self.cells[row] = cell(row, self.values, self.scores.score)
        return self.cells[row]


def table(page: Page, data: LayerData, settings: Settings) -> list[Component]:
    """The table at the page's step, or what will make one appear."""
    columns = shown_columns(data, settings, page.step)
    if not columns:
        return [html.P(_promise(page), className="how")]
    rows = sorted_rows(rows_of(data.modules, data.owners, settings.grouping, settings.unfolded), columns, settings.sort)
    flat = [row for block in rows for row in block]
    head = html.Thead(html.Tr([_corner(page, settings), *(_heading(page, shown, settings) for shown in columns)]))
    body = html.Tbody([_row(page, row, columns, settings) for row in flat[:MOST_ROWS]])
    parts: list[Component] = [html.Table([head, body], className="layer-table")]
    if len(flat) > MOST_ROWS:
        parts.append(html.P(f"… and {len(flat) - MOST_ROWS} more rows: fold some blocks to see them.", className="how"))
    if len(columns) == MOST_COLUMNS:
        words = f"The first {MOST_COLUMNS} quantities have a column; the map has a choice of all."
        parts.append(html.P(words, className="how"))
    return parts


def shown_columns(data: LayerData, settings: Settings, step: int | None) -> list[Shown]:
    """The table's columns: those that are declared, and what was chosen besides; not more than have room."""
    declared, others = data.columns()
    chosen = others if settings.extra == EVERY else {id: others[id] for id in others if id == settings.extra}
    wanted = declared | chosen or others
    return [_shown(id, data, column, step) for id, column in islice(wanted.items(), MOST_COLUMNS)]


def _shown(id: str, data: LayerData, column: LayerColumn, step: int | None) -> Shown:
    history, reading = data.history(column), data.reading(column, step)
    log = column.scale == "log"
    kinds = [data.owners[name].type if name in data.owners else "" for name in data.modules]
    extent = Extent.of(np.vstack([history.values, reading.values]), log=log)
    values, missing = _one(reading, len(kinds))
    earlier = history.values[history.steps < reading.steps[0]] if len(reading.steps) else history.values[:0]
    past = np.where(np.isfinite(earlier), earlier, np.nan)
    return Shown(id, column, np.where(missing, np.nan, values), scores(values, past, missing, kinds, log=log), extent)


def _one(reading: Quantity, modules: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The one row of a reading; all of it missing where there is none."""
    if len(reading.steps):
        return reading.values[-1], reading.missing[-1]
    return np.full(modules, np.nan), np.ones(modules, bool)


def sorted_rows(rows: Sequence[list[Row]], columns: Sequence[Shown], sort: str) -> list[list[Row]]:
    """Outer rows, each with its inner ones, in the order that was asked for; inner ones stay in depth order."""
    chosen = next((shown for shown in columns if shown.id == sort), None)
    outer = [block[0] for block in rows]
    if chosen is not None:
        order = order_by_value([chosen.cell(row).middle for row in outer])
    elif sort == DEPTH:
        order = list(range(len(outer)))
    else:
        order = order_by_score([row_score(row, columns) for row in outer])
    return [rows[place] for place in order]


def row_score(row: Row, columns: Sequence[Shown]) -> float:
    """The highest score of the row's cells; NaN where none is known."""
    known = [score for shown in columns if not math.isnan(score := shown.cell(row).score)]
    return max(known, default=math.nan)


def _corner(page: Page, settings: Settings) -> Component:
    """Name of the rows, and the two orders that are no column's."""
    orders: list[Component] = []
    for order, words in ((SCORE, "standing out"), (DEPTH, "depth")):
        chosen = settings.sort == order
        more = {"sort": None if order == SCORE else order}
        orders.append(link(words, page, LAYERS, more, className="order chosen" if chosen else "order"))
    return html.Th(["layer", html.Span(["first: ", *orders], className="orders")], scope="col")


def _heading(page: Page, shown: Shown, settings: Settings) -> Component:
    chosen = settings.sort == shown.id
    title = f"{shown.column.how_to_read or shown.column.title} Sort by it."
    name = link(
        shorten(shown.column.title, 34), page, LAYERS, {"sort": shown.id}, title=title,
        className="order chosen" if chosen else "order",
    )  # fmt: skip
    sorts: dict[str, Any] = {"aria-sort": "descending"} if chosen else {}
    return html.Th(name, scope="col", **sorts)


def _row(page: Page, row: Row, columns: Sequence[Shown], settings: Settings) -> Component:
    head = html.Th(_name(page, row, settings), scope="row", className="inner" if row.inner else "")
    bars = [_bar(shown, row) for shown in columns]
    element: Component = html.Tr([head, *bars], key=f"{row.inner} {row.name}", className="follows")
    return element


def _name(page: Page, row: Row, settings: Settings) -> list[Any]:
    """A module's name opens it; a group's unfolds it."""
    label = shorten(row.name, 44)
    if len(row.members) == 1:
        return [link(label, page, LAYERS, {"layer": row.name}, enters=True, title=f"Open {row.name}")]
    others = [name for name in settings.unfolded if name != row.name]
    unfolded = others if row.unfolded else [*others, row.name]
    words = f"{'▾' if row.unfolded else '▸'} {label}"
    more = {"unfolded": json.dumps(unfolded) if unfolded else None}
    count = html.Span(f" × {len(row.members)}", className="count")
    return [link(words, page, LAYERS, more, title=f"{row.name}: {len(row.members)} modules"), count]


def _bar(shown: Shown, row: Row) -> Component:
    """A bar from the column's end to the value; for a group to the median, with a line from lowest to highest."""
    found = shown.cell(row)
    if math.isnan(found.middle) and not math.isinf(found.score):
        return html.Td(html.Span("–", className="value"), title="missing", className="bar-cell")
    parts: list[Component] = [html.Span(className="fill", style={"width": _percent(shown.extent.share(found.middle))})]
    if len(row.members) > 1:
        low, high = (shown.extent.share(end) for end in (found.low, found.high))
        parts.append(html.Span(className="range", style={"left": _percent(low), "width": _percent(high - low)}))
    stands_out = found.score >= STANDS_OUT
    words = f"{'◆ ' if stands_out else ''}{number(found.middle)}"
    cells = [html.Span(parts, className="track"), html.Span(words, className="value")]
    return html.Td(cells, title=_hover(shown, row, found), className="bar-cell out" if stands_out else "bar-cell")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _hover(shown: Shown, row: Row, found: Cell) -> str:
    """The value, and how far it stands out of what."""
    said = f"{shown.column.title}: {number(found.middle)}"
    if len(row.members) > 1:
        said += f", median of {len(row.members)}, {number(found.low)} to {number(found.high)}"
    members = list(row.members)
    parts = (("its neighbours", shown.scores.neighbours), ("its own past", shown.scores.past))
    for words, distances in parts:
        known = distances[members][~np.isnan(distances[members])]
        if len(known):
            said += f"; {number(float(known.max()))} usual distances from {words}"
    return said


def _promise(page: Page) -> str:
    """Why there is no table, and when there will be one."""
    source, waited = page.source, dict[str, list[str]]()
    if source.state != "running":
        return "Nothing was logged layer by layer in this run."
    for panel in source.header.panels.values():
        for column in panel.layers:
            if when := interval_of(column.key, source):
                waited.setdefault(when, []).append(column.title)
    if not waited:
        return "No instrument of this run reads layer by layer; a row for each layer appears where the script logs so."
    readings = "; ".join(f"{', '.join(dict.fromkeys(titles))} ({when})" for when, titles in waited.items())
    return f"A row for each layer appears with the first of these readings: {readings}."
