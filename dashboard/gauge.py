"""Three gradient tests around the mean gradient, with their histories beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cockpit.dashboard.lines import empty_figure, key_strips, strips_figure
from cockpit.dashboard.scene import Scene, value_at
from cockpit.dashboard.theme import Drawing, Json, Palette, axis, base_layout, note, number, typed

GAUGE_WIDTH = 0.40  # of the figure
HISTORY_LEFT = 0.53
HEIGHT = 230
EXTENTS = (1.25, 2.5, 5.0, 10.0, 100.0)  # the gauge's half-widths: few, so that it seldom jumps


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
    figure["data"] += _shapes([*known, None, None, None][:3], index, scene.colours)
    extent = _extent(known)
    figure["layout"] |= {f"xaxis{index}": _across(extent, index, scene.colours)}
    figure["layout"] |= {f"yaxis{index}": _along(extent, index, scene.colours)}
    figure["layout"]["annotations"].append(_arrow(index, scene.colours))
    figure["layout"]["margin"] = base_layout(scene.colours, top=4, left=40)["margin"]
    return Drawing(figure, words=_words(scene.keys, values), height=HEIGHT)


def _extent(values: Sequence[float | None]) -> float:
    reach = max([value for value in values if value is not None], default=0.0)
    return next((extent for extent in EXTENTS if reach <= extent), EXTENTS[-1])


def _shapes(values: Sequence[float | None], index: int, colours: Palette) -> list[Json]:
    """Bands along and across the arrow, and the circle around its tip; a missing test has no shape."""
    norm, inner, ortho = values
    far = 2 * EXTENTS[-1]
    shapes = []
    if ortho is not None:
        across = ([-ortho, ortho, ortho, -ortho, -ortho], [-far, -far, far, far, -far])
        shapes.append(_area(across, "orthogonality test, across", "dot", index, colours))
    if inner is not None:
        along = ([-far, far, far, -far, -far], [1 - inner, 1 - inner, 1 + inner, 1 + inner, 1 - inner])
        shapes.append(_area(along, "inner test, along", "dash", index, colours))
    if norm is not None:
        angle = np.linspace(0, 2 * np.pi, 73)
        circle = (norm * np.cos(angle), 1 + norm * np.sin(angle))
        shapes.append(_area(circle, "norm test, radius", "solid", index, colours))
    return shapes


def _area(corners: tuple[object, object], name: str, dash: str, index: int, colours: Palette) -> Json:
    x, y = (np.asarray(side, dtype=np.float64) for side in corners)
    line = {"color": colours.run, "width": 1.5, "dash": dash}
    place = {"x": typed(x), "y": typed(y), "xaxis": f"x{index}", "yaxis": f"y{index}"}
    style = {"mode": "lines", "line": line, "fill": "toself", "fillcolor": colours.run_fill}
    return {"type": "scatter", "name": name, "hoverinfo": "name", "hoveron": "fills"} | place | style


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
