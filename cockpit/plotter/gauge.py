"""Three gradient tests around the mean gradient, with their histories beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from cockpit.drawing.columns import value_at
from cockpit.drawing.scatter import Area, Test, areas_of, extent_of
from cockpit.drawing.words import number
from cockpit.plotter import ticks
from cockpit.plotter.lines import FOOT, HEADING, SHORTEST, draw_strips, key_strips
from cockpit.plotter.room import LINE, Room
from cockpit.plotter.scene import Scene
from cockpit.plotter.theme import MARK, MUTED, RUN, RUN_FILL, SMALL

DASHES: Mapping[Test, tuple[float, Sequence[float]]] = {
    "norm": (0, ()),
    "inner": (0, (4, 2)),
    "ortho": (0, (1, 1.5)),
}
WIDEST = 2.3  # inches of the gauge
LEFT = 0.5


def height_of(scene: Scene) -> float:
    """Inches below which the drawing would be cramped."""
    strips = len(key_strips(scene))
    return FOOT + LINE * len(_words(scene)) + max(1.6, strips * (HEADING + SHORTEST))


def draw_gauge(scene: Scene, room: Room) -> None:
    """The scene's three keys, in the order norm test, inner test, orthogonality test."""
    values = [_known(scene, key) for key in scene.keys[:3]]
    room = room.captioned(_words(scene))
    side = min(WIDEST, 0.45 * room.width - LEFT, room.height - FOOT)
    above = room.height - FOOT - side
    axes = room.part(LEFT, FOOT + above / 2, side, side).axes()
    norm, inner, ortho = [*values, None, None, None][:3]
    for area in areas_of(norm, inner, ortho):
        _fill(axes, area)
    arrow = {"arrowstyle": "-|>", "color": MARK, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (0, 1), (0, 0), arrowprops=arrow)
    extent = extent_of(values)
    axes.set(xlim=(-extent, extent), ylim=(1 - extent, 1 + extent), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        ticks.set_ticks(axis, ticks.evenly, 5)
    axes.set_xlabel("across the mean gradient", size=SMALL, color=MUTED, labelpad=1)
    axes.set_ylabel("along it, its length = 1", size=SMALL, color=MUTED, labelpad=1)
    strips = room.inset(left=LEFT + side + 0.15)
    draw_strips(key_strips(scene), scene, strips)


def _known(scene: Scene, key: str) -> float | None:
    value = value_at(scene.columns.get(key), None)
    return value if value is not None and math.isfinite(value) else None


def _fill(axes: Axes, area: Area) -> None:
    (shape,) = axes.fill(area.x, area.y, facecolor=RUN_FILL, edgecolor=RUN, linewidth=1.1, label=area.name)
    shape.set_linestyle(DASHES[area.test])


def _words(scene: Scene) -> list[str]:
    """How the shapes are told apart, and the readings that have none."""
    said = ["circle: norm test; dashed: inner test, along; dotted: orthogonality test, across"]
    for key in scene.keys[:3]:
        value = value_at(scene.columns.get(key), None)
        if value is None:
            said.append(f"{key} is missing")
        elif not math.isfinite(value):
            said.append(f"{key} is {number(value)}")
    return [said[0], "; ".join(said[1:])] if said[1:] else said
