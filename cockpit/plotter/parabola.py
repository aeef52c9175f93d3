"""Where steps end on the parabola they are measured on, as a density over all steps and over the last."""

from __future__ import annotations

from matplotlib.axes import Axes

from cockpit.drawing.positions import GRID, REACH, Steps, densities, fates_of, recent, sort, words_of
from cockpit.drawing.words import number
from cockpit.plotter import ticks
from cockpit.plotter.lines import FOOT
from cockpit.plotter.room import LINE, Room
from cockpit.plotter.scene import Scene
from cockpit.plotter.theme import GRID as QUIET
from cockpit.plotter.theme import INK, MARK, MUTED, PAPER, RUN, RUN_FILL, SMALL

LEFT, HEADING = 0.5, 0.19
TOP = 1.95  # of the loss axis
PEAK = 1.2  # height of the higher density's peak
LABELS = 1.72  # height of the words at the top


def height_of(scene: Scene) -> float:
    """Inches below which the drawing would be cramped."""
    return FOOT + HEADING + 2 * LINE + 1.4


def draw_parabola(scene: Scene, room: Room) -> None:
    """Density of the scene's one key over ``x²``: start at -1, valley floor at 0, the start's height again at 1."""
    key = scene.keys[0]
    column = scene.columns.get(key)
    if column is None:
        room.write(f"{key} has no value", y=room.height / 2, colour=MUTED)
        return
    fates = fates_of(column, scene.columns)
    everything, last = sort(column, fates), sort(column, fates, recent(fates))
    room = room.captioned([words_of(everything, "{} tracked steps"), words_of(last, "Last {}")])
    fate = str(fates[-1])
    shown = number(float(column.values[-1])) if fate == "minimum" else fate
    half = room.width / 2
    room.write(f"{key} at step {int(column.steps[-1]):,}: {shown}", y=room.height - LINE, width=half)
    axes = room.inset(left=LEFT, bottom=FOOT, right=0.1, top=HEADING).axes()
    _valley(axes)
    _fill(axes, everything, last, room)
    if fate == "minimum" and abs(float(column.values[-1])) <= REACH:
        value = float(column.values[-1])
        axes.plot([value], [value**2], "o", color=MARK, markersize=7, markeredgecolor=PAPER, gid="this step")


def _fill(axes: Axes, everything: Steps, last: Steps, room: Room) -> None:
    """Both densities to one scale; where there are few steps, their points on the parabola instead."""
    curves = densities(everything, last)
    if "all" in curves:
        axes.fill_between(GRID, curves["all"] * PEAK, color=RUN_FILL, linewidth=0)
        axes.plot(GRID, curves["all"] * PEAK, color=RUN, linewidth=1.2, gid="all")
    elif len(everything.minima):
        axes.plot(everything.minima, everything.minima**2, "o", color=RUN, markersize=4, alpha=0.6, gid="points")
    if "last" in curves:
        axes.plot(GRID, curves["last"] * PEAK, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), gid="last")
    legend = f"── all {everything.total:,}" + (f"   ╌╌ last {last.total:,}" if "last" in curves else "")
    room.write(legend, x=room.width - 0.1, y=room.height - LINE, align="right", width=room.width / 2 - 0.2)


def _valley(axes: Axes) -> None:
    """The parabola, its three marked points, and the axes around it."""
    axes.grid(False)
    axes.vlines([-1, 0, 1], -0.3, LABELS - 0.08, color=QUIET, linewidth=0.8, zorder=0)
    axes.plot(GRID, GRID**2, color=MUTED, linewidth=1.1, gid="parabola")
    axes.plot([-1, 0, 1], [1, 0, 1], "o", color=PAPER, markeredgecolor=MUTED, markersize=5, linestyle="none")
    axes.set(xlim=(-REACH, REACH), ylim=(-0.3, TOP))
    ticks.set_ticks(axes.xaxis, ticks.evenly, 8)
    axes.set_yticks([0, 1], ["0", "1"])
    axes.set_xlabel("normalised step size", size=SMALL, color=MUTED, labelpad=1)
    axes.set_ylabel("loss, start = 1", size=SMALL, color=MUTED, labelpad=2)
    for x, y, text, align in (
        (-0.5, LABELS, "too short", "center"),
        (0.5, LABELS, "past the minimum", "center"),
        (-1.08, 0.9, "start", "right"),
        (0.0, -0.24, "valley floor", "center"),
        (1.08, 0.9, "mirrored", "left"),
    ):
        axes.text(x, y, text, size=SMALL, color=MUTED, ha=align, va="baseline")
