"""Three gradient tests around the mean gradient, with their histories beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cockpit.dashboard.lines import empty_figure, key_strips, strips_figure
from cockpit.dashboard.scene import Scene, value_at
from cockpit.dashboard.theme import Drawing, Json, Palette, axis, base_layout, note, number, typed
from cockpit.drawing.scatter import Area, areas_of, extent_of

GAUGE_WIDTH = 0.40  # of the figure
HISTORY_LEFT = 0.53
HEIGHT = 230
DASHES = {"norm": "solid", "inner": "dash", "ortho": "dot"}


def draw_gauge(scene: Scene) -> Drawing:
    """The scene's three keys, in the order norm test, inner test, orthogonality test.

    In units of the mean gradient's length, whose arrow points from 0 to 1: the norm test is a radius around its tip,
    the inner test how far samples scatter along it, the orthogonality test how far across. The squares of the latter
    two add up to the square of the first, so the bands cross on the circle.
    """
    strips = key_strips(scene)
    if not strips:
        return Drawing(empty_figure(scene), empty=scene.clock)
    values = [value_at(scene.column(key), scene.step) for key in scene.keys[:3]]
    known = [value if value is not None and math.isfinite(value) else None for value in values]
    figure = strips_figure(strips, scene, left=HISTORY_LEFT)
    index = len(strips) + 2
    norm, inner, ortho = [*known, None, None, None][:3]
    figure["data"] += [_area(area, index, scene.colours) for area in areas_of(norm, inner, ortho)]
    extent = extent_of(known)
    figure["layout"] |= {f"xaxis{index}": _across(extent, index, scene.colours)}
    figure["layout"] |= {f"yaxis{index}": _along(extent, index, scene.colours)}
    figure["layout"]["annotations"].append(_arrow(index, scene.colours))
    figure["layout"]["margin"] = base_layout(scene.colours, top=4, left=40)["margin"]
    return Drawing(figure, words=_words(scene.keys, values), height=HEIGHT)


def _area(area: Area, index: int, colours: Palette) -> Json:
    line = {"color": colours.run, "width": 1.5, "dash": DASHES[area.test]}
    place = {"x": typed(area.x), "y": typed(area.y), "xaxis": f"x{index}", "yaxis": f"y{index}"}
    style = {"mode": "lines", "line": line, "fill": "toself", "fillcolor": colours.run_fill}
    return {"type": "scatter", "name": area.name, "hoverinfo": "name", "hoveron": "fills"} | place | style


def _arrow(index: int, colours: Palette) -> Json:
    """The mean gradient, from 0 to 1."""
    place = {"xref": f"x{index}", "yref": f"y{index}", "axref": f"x{index}", "ayref": f"y{index}"}
    ends = {"x": 0, "y": 1, "ax": 0, "ay": 0}
    head = {"showarrow": True, "arrowhead": 2, "arrowwidth": 2.5, "arrowcolor": colours.mark}
    return note(colours, "") | place | ends | head


def _across(extent: float, index: int, colours: Palette) -> Json:
    place = {"domain": [0, GAUGE_WIDTH], "anchor": f"y{index}", "range": [-extent, extent], "fixedrange": True}
    return axis(colours, "across the mean gradient", **place, nticks=5, constrain="domain")


def _along(extent: float, index: int, colours: Palette) -> Json:
    place = {"domain": [0, 1], "anchor": f"x{index}", "range": [1 - extent, 1 + extent], "fixedrange": True}
    ratio = {"scaleanchor": f"x{index}", "constrain": "domain"}
    return axis(colours, "along, mean gradient = 1", **place, **ratio, nticks=5)


def _words(keys: Sequence[str], values: Sequence[float | None]) -> str:
    """The readings that have no shape."""
    said = []
    for key, value in zip(keys, values, strict=False):
        if value is None:
            said.append(f"{key} is missing at this step")
        elif not math.isfinite(value):
            said.append(f"{key} is {number(value)}: the mean gradient vanishes beside its samples")
    return "; ".join(said)
