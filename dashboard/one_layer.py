"""One layer by itself: its histograms over time, and every layer-wise number of it."""

from __future__ import annotations

from collections.abc import Mapping

from dash import html
from dash.development.base_component import Component

from cockpit.dashboard.layer_data import HISTOGRAMS, NUMBERS, LayerData, module_of
from cockpit.dashboard.layer_figures import draw_curves, draw_history
from cockpit.dashboard.layer_parts import FIRST, LAYERS, Settings, figure_card, select, stores
from cockpit.dashboard.layout import message
from cockpit.dashboard.links import link
from cockpit.dashboard.page import Page
from cockpit.dashboard.scene import Scene
from cockpit.dashboard.theme import Drawing, palette, shorten
from cockpit.panel import Panel

CURVES = "Curves"
ZEROS = ".layer_zeros"  # what a layer-wise histogram of logarithms logs beside itself
NO_PANEL = Panel(title="", kind="lines", how_to_read="")


def one_layer(page: Page, data: LayerData, settings: Settings) -> list[Component]:
    """The view of one layer."""
    back = link("← All layers", page, LAYERS, {"layer": None, "histogram": None}, className="back")
    if settings.layer not in data.modules:
        return [html.Div([back], className="bar"), message(f"This run has no layer called “{settings.layer}”.")]
    described = html.Span(_described(page, data, settings.layer), className="hint")
    bar = [back, html.H2(shorten(settings.layer, 60)), described]
    bar += [*_neighbours(page, data, settings.layer), *_choice(page, data, settings)]
    drawings = drawings_of(page, data, settings)
    how = "A column of colours is one histogram, darkest in its fullest bin: look for a drift, a split, a widening."
    words = "Numbers that are logged of this layer; of several parameters each has a dash of its own."
    is_curve = {name: name.startswith(f"{CURVES} ") for name in drawings}
    cards = {
        name: figure_card(page, name, name, words if is_curve[name] else how, drawing)
        for name, drawing in drawings.items()
    }
    columns = [html.Div([cards[name] for name in side], className="column") for side in _sides(drawings, is_curve)]
    content = html.Div(columns, className=f"screen one-layer-{len(columns)}")
    return [html.Div(bar, className="bar"), content, *stores(drawings)]


def _sides(drawings: Mapping[str, Drawing], is_curve: Mapping[str, bool]) -> list[list[str]]:
    """Two columns much the same in height, histograms in the first; one, where there is not enough for two."""
    left = [name for name in drawings if not is_curve[name]]
    right: list[str] = []
    for name in filter(is_curve.__getitem__, drawings):
        heights = [sum(drawings[other].height for other in side) for side in (left, right)]
        (right if left and heights[1] <= heights[0] else left).append(name)
    return [side for side in (left, right) if side]


def drawings_of(page: Page, data: LayerData, settings: Settings) -> dict[str, Drawing]:
    """The layer's figures by name: a histogram over time for each of its parameters, and the curves."""
    if settings.layer not in data.modules:
        return {}
    key = _histogram(data, settings)
    manner, source = page.choice.manner, page.source
    timeline, colours = source.timeline(manner.measure, manner.zone), palette(page.choice.scheme)
    live = source.state == "running"
    promise = "Appears with the layer's first reading." if live else "Nothing was logged of this layer."
    scene = Scene(
        NO_PANEL, (), step=page.step, events=source.happened.ticks, colours=colours, clock=promise, timeline=timeline,
        smooth=manner.smooth,
    )  # fmt: skip
    found = {}
    if key is not None:
        panel = source.header.panels.get(key)
        zeros = data.numbers(key + ZEROS, settings.layer)
        for name, column in data.histograms(key, settings.layer).items():
            title = f"{panel.title if panel else key}{f', {name}' if name else ''}"
            binned = panel.xlabel if panel and panel.xlabel else key
            found[title] = draw_history(column, zeros.get(name), scene, name=binned)
    groups = {key: curves for key in data.keys(NUMBERS) if (curves := data.numbers(key, settings.layer))}
    found |= {f"{CURVES} {at}": drawing for at, drawing in enumerate(draw_curves(groups, data.logarithmic(), scene), 1)}
    for name, drawing in found.items():
        drawing.figure["layout"]["uirevision"] = f"{page.run} {page.source.header.created} {settings.layer} {name}"
    return found


def _histogram(data: LayerData, settings: Settings) -> str | None:
    """The key of the histograms that are shown: the chosen one, else the first that a column of the table shows."""
    keys = data.keys(HISTOGRAMS)
    declared, _ = data.columns()
    first = [column.key for column in declared.values() if column.key in keys]
    return settings.histogram if settings.histogram in keys else next(iter([*first, *keys]), None)


def _described(page: Page, data: LayerData, layer: str) -> str:
    """Its type, and the shapes of its parameters."""
    owner = data.owners.get(layer)
    shapes = []
    for entry in page.source.header.model.get("parameters", ()):
        name = str(entry.get("name", ""))
        if module_of(name, data.parameters) == layer and name in data.parameters:
            sizes = " × ".join(map(str, entry.get("shape", ()))) or "1"
            shapes.append(f"{data.parameters[name].parameter} {sizes}")
    return ", ".join([*([owner.type] if owner and owner.type else []), *shapes])


def _neighbours(page: Page, data: LayerData, layer: str) -> list[Component]:
    """Links to the layers before and after it."""
    at = data.modules.index(layer)
    near = [("‹", at - 1, "before"), ("›", at + 1, "after")]
    return [
        link(f"{sign} {shorten(data.modules[place], 28)}", page, LAYERS, {"layer": data.modules[place]},
             title=f"The layer {word}", className="order")
        for sign, place, word in near if 0 <= place < len(data.modules)
    ]  # fmt: skip


def _choice(page: Page, data: LayerData, settings: Settings) -> list[Component]:
    """Which histograms are shown, where there are several."""
    keys = [key for key in data.keys(HISTOGRAMS) if data.has_histograms(key, settings.layer)]
    if len(keys) < 2:
        return []
    panels = page.source.header.panels
    first = _histogram(data, Settings()) or FIRST
    options = {FIRST: panels[first].title if first in panels else first}
    options |= {key: panels[key].title if key in panels else key for key in keys if key != first}
    chosen = FIRST if settings.histogram == first else settings.histogram
    return [select("Histograms of", "histogram", FIRST, chosen, options)]
