"""Curves over steps: one strip per quantity on a shared step axis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cockpit.drawing.columns import broken, drawable, lone, value_at
from cockpit.drawing.metrics import strips_of
from cockpit.drawing.smoothing import is_noisy, moving_average
from cockpit.drawing.words import number, shorten
from cockpit.panel import Panel
from cockpit.plotter import ticks
from cockpit.plotter.room import LINE, Room
from cockpit.plotter.scene import Scene
from cockpit.plotter.theme import ALARM, INK, MARK, MUTED, RUN, SMALL
from cockpit.store import Column

STYLES = tuple(itertools.product((RUN, MARK, INK), ("solid", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))))
GLYPHS = ("──", "╌╌", "┈┈", "─·")
MOST_STRIPS = 12
HEADING = 0.24  # height of a strip's name
SHORTEST = 0.5  # plot of a strip
LEFT, FOOT = 0.62, 0.36  # room for the labels of the value axis and of the step axis
GHOST = 0.35  # opacity of raw values behind their average
EXTREME = 1e270  # what is larger, or smaller than its inverse, is beyond every axis
MARGIN = 0.02  # of the axis beside the first and the last point


@dataclass(frozen=True)
class Strip:
    """Curves by name that share a value axis.

    Args:
        title: The value axis's name.
        curves: At least one; the order gives colours and dashes.
        log: Whether the value axis is wanted logarithmic.
        own: Whether these are the panel's own keys, for which its reference lines hold.
    """

    title: str
    curves: dict[str, Column]
    log: bool
    own: bool

    @property
    def values(self) -> NDArray[np.float64]:
        """All finite values."""
        values = np.concatenate([drawable(column) for column in self.curves.values()])
        finite: NDArray[np.float64] = values[np.isfinite(values)]
        return finite

    @property
    def logarithmic(self) -> bool:
        """Whether the value axis is logarithmic: it cannot be where no value is positive."""
        return self.log and bool((self.values > 0).any())

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the value axis, with a margin around the finite values."""
        values = self.values
        if not len(values):
            return 0.0, 1.0
        if self.logarithmic:
            low, high = np.clip((values[values > 0].min(), values.max()), 1 / EXTREME, EXTREME).tolist()
            pad = max((high / low) ** 0.06, 1.12)
            return low / pad, high * pad
        low, high = np.clip((values.min(), values.max()), -EXTREME, EXTREME).tolist()
        size = max(abs(low), abs(high))
        # Differences in the last digits are rounding, and their labels would be too long to read.
        pad = 0.06 * (high - low) if high - low > 1e-4 * size else size / 2
        pad = pad if size > 1 / EXTREME else 1.0
        return low - pad, high + pad

    def references(self, panel: Panel) -> list[tuple[float, str]]:
        """Those of the panel's reference lines that lie within the axis."""
        low, high = self.limits
        return [(value, label) for value, label in panel.references if self.own and low <= value <= high]


def height_of(scene: Scene) -> float:
    """Inches below which the drawing would be cramped."""
    strips, _ = _strips(scene)
    return FOOT + LINE * len(_words(scene)) + len(strips) * (HEADING + SHORTEST)


def draw_lines(scene: Scene, room: Room) -> None:
    """The scene's scalars in strips, with what they cannot show in words below."""
    strips, _ = _strips(scene)
    draw_strips(strips, scene, room.captioned(_words(scene)))


def key_strips(scene: Scene) -> list[Strip]:
    """A strip for each of the panel's keys that has points."""
    label = scene.panel.ylabel if len(scene.keys) == 1 else ""
    columns = [scene.columns[key] for key in scene.keys if key in scene.columns]
    return [Strip(label or column.key, {"": column}, scene.log, own=True) for column in columns]


def _strips(scene: Scene) -> tuple[list[Strip], list[Strip]]:
    """The strips that are drawn, and those there is no room for."""
    users = [key for key in scene.columns if key not in scene.keys]
    strips = key_strips(scene)
    for title, curves in strips_of(users).items():
        columns = {name: scene.columns[key] for name, key in curves.items()}
        strips.append(Strip(title, columns, log=False, own=False))
    return strips[:MOST_STRIPS], strips[MOST_STRIPS:]


def draw_strips(strips: Sequence[Strip], scene: Scene, room: Room) -> None:
    """Strips, at least one, from the top down above a step axis."""
    each = (room.height - FOOT) / len(strips)
    for index, strip in enumerate(strips):
        lowest = index == len(strips) - 1
        place = room.part(0, room.height - (index + 1) * each, room.width, each)
        place.write(_heading(strip), x=0, y=each - LINE)
        axes = place.inset(left=LEFT, right=0.1, bottom=0 if lowest else 0.05, top=HEADING).axes()
        _step_axis(axes, scene, room.width - LEFT - 0.1, labelled=lowest)
        _value_axis(axes, strip, each - HEADING)
        for (name, column), (colour, dash) in zip(strip.curves.items(), itertools.cycle(STYLES), strict=False):
            _curve(axes, column, colour, dash, strip.logarithmic, name)
        for value, label in strip.references(scene.panel):
            axes.axhline(value, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)), label=label or "_", gid="reference")
        if not len(strip.values):
            place.write("no finite value", x=LEFT + 0.1, y=(each - HEADING) / 2, colour=MUTED)


def _heading(strip: Strip) -> str:
    """The strip's name and its last values."""
    readings = []
    for (name, column), glyph in zip(strip.curves.items(), itertools.cycle(GLYPHS), strict=False):
        value = value_at(column, None)
        label = f"{glyph} {shorten(name, 24)} " if len(strip.curves) > 1 else ""
        readings.append(f"{label}{'missing' if value is None else number(value)}")
    return f"{shorten(strip.title, 40)}    {'    '.join(readings)}"


def _step_axis(axes: Axes, scene: Scene, inches: float, labelled: bool) -> None:
    first, last = scene.span
    if scene.log_steps and last > 0:
        axes.set_xscale("symlog", linthresh=1.0, linscale=0.4)
        axes.set_xlim(max(0, first) - 0.1, last * 1.2)
        ticks.set_ticks(axes.xaxis, _log_steps, max(2, int(inches / 0.7)))
    else:
        margin = max(0.5, MARGIN * (last - first))
        axes.set_xlim(first - margin, last + margin)
        ticks.set_ticks(axes.xaxis, ticks.whole, ticks.most_across(inches, first, last))
    axes.tick_params(axis="x", labelbottom=labelled)
    if labelled:
        axes.set_xlabel("step", size=SMALL, color=MUTED, labelpad=1)


def _log_steps(low: float, high: float, most: int) -> NDArray[np.float64]:
    positive = ticks.powers(max(1.0, low), max(2.0, high), most - 1)
    return np.append(0.0, positive[positive >= 1]) if low <= 0 else positive


def _value_axis(axes: Axes, strip: Strip, inches: float) -> None:
    """Limits around the finite values, and ticks as there is room for."""
    most = max(2, min(5, round(inches / 0.22)))
    if strip.logarithmic:
        axes.set_yscale("log")
    axes.set_ylim(*strip.limits)
    if len(strip.values):
        ticks.set_ticks(axes.yaxis, ticks.powers if strip.logarithmic else ticks.evenly, most)
    else:
        axes.tick_params(axis="y", left=False, labelleft=False)


def _curve(axes: Axes, column: Column, colour: str, dash: object, log: bool, name: str) -> None:
    """The curve (faint, behind its average, where it is noisy) and the points a line cannot show."""
    values = drawable(column)
    if log:
        values = np.where(values > 0, values, np.nan)
    noisy = is_noisy(values, log)
    label = name or column.key
    (line,) = axes.plot(column.steps, values, color=colour, linestyle=dash, label=label, gid="curve")
    line.set(linewidth=0.7 if noisy else 1.2, alpha=GHOST if noisy else 1.0)
    if noisy:
        average = moving_average(values, log)
        axes.plot(column.steps, average, linestyle=dash, color=colour, linewidth=1.6, gid="average")
    alone = lone(values)
    if alone.any():
        axes.plot(column.steps[alone], values[alone], "o", color=colour, markersize=3, gid="lone")
    crosses = broken(column)
    if crosses.any():
        finite = values[np.isfinite(values)]
        ceiling = np.full(int(crosses.sum()), finite.max() if len(finite) else 1.0)
        axes.plot(column.steps[crosses], ceiling, "x", color=ALARM, markersize=5, clip_on=False, gid="broken")


def _words(scene: Scene) -> list[str]:
    """What the strips cannot show, in at most one line."""
    strips, others = _strips(scene)
    said = list(_hidden(strips))
    said += _meanings(strips, scene.panel)
    if others:
        said.append(f"{len(others)} more in the log: {', '.join(strip.title for strip in others)}")
    return ["; ".join(said)] if said else []


def _meanings(strips: Sequence[Strip], panel: Panel) -> Iterator[str]:
    """What the panel's reference lines mean; of those that lie beyond every axis, where they are."""
    own = [strip for strip in strips if strip.own]
    for value, label in panel.references if own else ():
        if not label:
            continue
        if any((value, label) in strip.references(panel) for strip in own):
            yield f"dashed: {label}"
        else:
            yield f"{label}: {number(value)}, beyond the axis"


def _hidden(strips: Sequence[Strip]) -> Iterator[str]:
    for strip in strips:
        for column in strip.curves.values():
            hidden = int(np.count_nonzero(drawable(column) <= 0)) if strip.logarithmic else 0
            if hidden:
                yield f"{column.key}: {hidden} at or below 0, which a log axis cannot show"
            missing = int(np.count_nonzero(column.missing))
            if missing:
                yield f"{column.key}: {missing} missing"
            crosses = int(np.count_nonzero(broken(column)))
            if crosses:
                yield f"{column.key}: {crosses} not finite (×)"
