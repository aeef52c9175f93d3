"""Curves over steps: one strip per quantity on a shared step axis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.compared import (
    band_traces,
    compared_columns,
    comparisons,
    place_beside,
    threshold_labels,
    threshold_traces,
)
from cockpit.dashboard.curves import curve_traces
from cockpit.dashboard.marks import EVENTS_HEIGHT, ending, event_axis, event_traces, step_marks, time_axis
from cockpit.dashboard.scene import Scene, drawable, value_at
from cockpit.dashboard.theme import (
    ROW_HEIGHT,
    Drawing,
    Json,
    axis,
    base_layout,
    note,
    number,
    plain,
    shorten,
)
from cockpit.drawing.metrics import alike, strips_of
from cockpit.store import Column

DASHES = ("solid", "dash", "dot", "dashdot")
GLYPHS = ("──", "╌╌", "┈┈", "─·")
HEADER = 0.105  # height of a strip's heading, as a share of the plot of a panel that is one row high
STRIPS_PER_ROW = 3
HIGH = 0.5  # of the figure: a strip that has room for as many ticks as one by itself
OWN = "mini-batch"  # the panel's own curve beside the user's metrics that are like it


@dataclass(frozen=True)
class Curve:
    """One key of a strip; ``name`` tells it from the strip's other curves."""

    name: str
    column: Column


@dataclass(frozen=True)
class Strip:
    """Curves that share a value axis.

    Args:
        title: The value axis's name.
        curves: At least one; the order gives the dashes.
        log: Whether the value axis is logarithmic.
        own: Whether these are the panel's own keys, for which its reference lines hold.
        share: Of the height, beside the other strips'.
        first: Whether it is that of the panel's first key, which thresholds and the band belong to.
        top: Upper edge of the plot, as a share of the figure's height.
        bottom: Its lower edge.
        index: Number of its value axis, from 1.
    """

    title: str
    curves: tuple[Curve, ...]
    log: bool
    own: bool
    share: float = 1.0
    first: bool = False
    top: float = 1.0
    bottom: float = 0.0
    index: int = 1

    @property
    def yaxis(self) -> str:
        """Plotly's name of the value axis."""
        return "y" if self.index == 1 else f"y{self.index}"


def draw_lines(scene: Scene) -> Drawing:
    """The scene's scalars over steps, in strips; see :class:`Scene` for what it holds."""
    strips = [*key_strips(scene), *_user_strips(scene)]
    if not strips:
        return Drawing(empty_figure(scene), empty=scene.clock)
    height = int(ROW_HEIGHT * max(1.0, len(strips) / STRIPS_PER_ROW))
    words = "; ".join(filter(None, (*comparisons(scene), _words(strips))))
    missing = all(curve.column.missing.all() for strip in strips for curve in strip.curves)
    empty = f"Missing at every step so far. {scene.why}".strip() if missing else ""
    return Drawing(strips_figure(strips, scene), words=words, empty=empty, height=height)


def strips_figure(contents: Sequence[Strip], scene: Scene, left: float = 0.0) -> Json:
    """Strips, at least one, from the top down.

    Args:
        contents: What they show; their places are set here.
        scene: Gives the selected step, events and colours.
        left: Where the strips begin, as a share of the figure's width.
    """
    strips = list(_stacked(contents))
    columns = [curve.column for strip in strips for curve in strip.curves]
    columns += compared_columns(scene) if strips[0].first else []
    span = min(int(column.steps[0]) for column in columns), max(int(column.steps[-1]) for column in columns)
    edges = [(strip.bottom, strip.top) for strip in strips] + [(0.0, EVENTS_HEIGHT)]
    layout = base_layout(scene.colours, top=4, left=50)
    layout |= {"hovermode": "x", "hoversubplots": "axis", "meta": _cursor(strips)}
    layout["annotations"] = [_heading(strip, scene) | {"x": left} for strip in strips]
    place = {"domain": [left, 1], "anchor": "free", "position": 0}
    layout["xaxis"] = time_axis(scene.timeline, scene.colours, end=ending(scene.step, span, scene.timeline)) | place
    layout |= {_layout_name(strip): _value_axis(strip, len(strips), scene) for strip in strips}
    layout[f"yaxis{len(strips) + 1}"] = event_axis()
    layout["shapes"] = [
        *_references(strips, scene, left),
        *step_marks(scene.step, span, edges, scene.colours, scene.timeline),
    ]
    traces = [trace for strip in strips for trace in _strip_traces(strip, scene)]
    traces += event_traces(scene.events, f"y{len(strips) + 1}", span[1], scene.colours, scene.timeline)
    layout["annotations"] += (
        [label | {"yref": strips[0].yaxis} for label in threshold_labels(scene)] if strips[0].first else []
    )
    return {"data": traces, "layout": layout}


def empty_figure(scene: Scene) -> Json:
    """A figure without axes, for a panel that has nothing to show yet."""
    hidden = {"visible": False, "fixedrange": True}
    return {"data": [], "layout": base_layout(scene.colours) | {"xaxis": hidden, "yaxis": hidden}}


def key_strips(scene: Scene) -> list[Strip]:
    """A strip for each of the panel's keys that has points; the first also takes the metrics that are like it."""
    label = scene.panel.ylabel if len(scene.keys) == 1 else ""
    heights = dict(zip(scene.keys, scene.panel.heights, strict=False))
    strips = []
    for key in scene.keys:
        column, first = scene.column(key), key == scene.keys[0]
        others = list(_like(scene)) if first else []
        curves = [(OWN if others else key, column), *others]
        known = [Curve(name, points) for name, points in curves if points is not None]
        if known:
            title = known[0].name if column is None else label or key
            shown = tuple(known) if len(known) > 1 else (Curve("", known[0].column),)
            log = _as_log(known[0].column, scene)
            strips.append(Strip(title, shown, log, True, heights.get(key, 1.0), first))
    return strips


def _like(scene: Scene) -> Iterator[tuple[str, Column | None]]:
    """The user's metrics that join the first key."""
    for key in alike(scene.columns, scene.panel.like):
        if not scene.belongs(key):
            yield key, scene.column(key)


def _as_log(column: Column, scene: Scene) -> bool:
    """Whether a column stands on a log axis: not where that could show none of its values."""
    values = drawable(column)
    return scene.log and not (bool(np.isfinite(values).any()) and bool((values[np.isfinite(values)] <= 0).all()))


def _user_strips(scene: Scene) -> Iterator[Strip]:
    """The user's metrics; ``train/accuracy`` and ``valid/accuracy`` share a strip."""
    joined = alike(scene.columns, scene.panel.like)
    others = [key for key in scene.columns if not scene.belongs(key) and key not in joined]
    users = others if scene.panel.user_metrics else []
    columns = {key: column for key in users if (column := scene.column(key)) is not None}
    for title, curves in strips_of(columns).items():
        yield Strip(title, tuple(Curve(name, columns[key]) for name, key in curves.items()), log=False, own=False)


def _stacked(contents: Sequence[Strip]) -> Iterator[Strip]:
    """The strips with their places, from the top down, above the axis that carries the events."""
    rows = max(1.0, len(contents) / STRIPS_PER_ROW)
    whole, above = sum(strip.share for strip in contents), 1.0
    for index, strip in enumerate(contents):
        below = above - (1 - EVENTS_HEIGHT) * strip.share / whole
        bottom = below + (0.02 / rows if index + 1 < len(contents) else 0)
        yield replace(strip, top=above - HEADER / rows, bottom=bottom, index=index + 1)
        above = below


def _heading(strip: Strip, scene: Scene) -> Json:
    """The strip's name and its value at the selected step."""
    several = len(strip.curves) > 1
    readings = []
    for curve, glyph in zip(strip.curves, itertools.cycle(GLYPHS), strict=False):
        value = value_at(curve.column, scene.step)
        shown = "missing" if value is None else number(value)
        label = f"{glyph} {shorten(curve.name, 24)} " if several else ""
        readings.append(f"{plain(label)}<b>{shown}</b>")
    text = f"{plain(shorten(strip.title, 40))}  {'   '.join(readings)}"
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": strip.top, "yanchor": "bottom"}
    return note(scene.colours, "", **place) | {"text": text, "font": {"size": 11, "color": scene.colours.ink}}


def _cursor(strips: Sequence[Strip]) -> Json:
    """Tells the page that the figure shares the hover cursor over steps, and in which of its subplots."""
    return {"cursor": [f"x{strip.yaxis}" for strip in strips]}


def _layout_name(strip: Strip) -> str:
    return f"yaxis{'' if strip.index == 1 else strip.index}"


def _value_axis(strip: Strip, strips: int, scene: Scene) -> Json:
    """The axis of one of so many strips with about as many ticks as it has room for."""
    ticks = 5 if strips == 1 or strip.top - strip.bottom > HIGH else 3 if strip.share >= 1 else 2
    settings: Json = {"domain": [strip.bottom, strip.top], "anchor": "x", "nticks": ticks, "tickfont": {"size": 10}}
    shown = [*(curve.column for curve in strip.curves), *(compared_columns(scene) if strip.first else [])]
    values = np.concatenate(list(map(drawable, shown)))
    values = values[values > 0] if strip.log else values[np.isfinite(values)]
    settings["showticklabels"] = settings["showgrid"] = bool(len(values))  # without values plotly makes up some
    if strip.log:
        settings |= log_ticks(_log_tick(values, ticks))
    elif len(values) and values.min() == values.max():
        value, margin = values[0], abs(values[0]) / 2 or 1.0
        # Plotly alone would show one unit around it, however small the value is.
        settings["autorangeoptions"] = {"minallowed": value - margin, "maxallowed": value + margin}
    return axis(scene.colours, uirevision=settings.get("type", "linear"), **settings)


def log_ticks(distance: str | int) -> Json:
    """A logarithmic axis with ticks at plotly's ``distance``: powers of ten as such, values between in full."""
    return {"type": "log", "tickformat": "" if isinstance(distance, int) else ".4~g", "dtick": distance}


def _log_tick(values: NDArray[np.float64], ticks: int) -> str | int:
    """Plotly's distance of ticks for positive values: powers of ten, or values between where they span few powers."""
    decades = float(np.log10(values.max() / values.min())) if len(values) else 0.0
    if decades == 0:
        return "D1"
    if decades >= (2.2 if ticks >= 5 else 1.5):
        return max(1, round(decades / ticks))
    if decades >= 0.7:
        return "D2"  # 1, 2, 5 of each power
    rough = (values.max() - values.min()) / 3
    power = 10 ** np.floor(np.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough)
    return f"L{step:.6g}"  # evenly spaced values


def _strip_traces(strip: Strip, scene: Scene) -> Iterator[Json]:
    if strip.first:
        yield from (trace | {"yaxis": strip.yaxis} for trace in (*band_traces(scene), *threshold_traces(scene)))
    looks: Json = {"log": strip.log, "step": scene.step, "colours": scene.colours, "timeline": scene.timeline}
    error = scene.column(scene.panel.error) if strip.first else None
    for curve, dash in zip(strip.curves, itertools.cycle(DASHES), strict=False):
        for trace in curve_traces(curve.column, dash, **looks, smooth=scene.smooth, error=error):
            yield trace | {"yaxis": strip.yaxis}


def _references(strips: Sequence[Strip], scene: Scene, left: float) -> Iterator[Json]:
    """Lines with a meaning, whose words stand where the curves leave room."""
    for strip in strips:
        for value, label in scene.panel.references if strip.own else ():
            line = {"color": scene.colours.muted, "width": 1, "dash": "dash"}
            end, side = place_beside(value, [curve.column for curve in strip.curves], log=strip.log)
            font = {"size": 10, "color": scene.colours.muted}
            text = {"text": plain(label), "textposition": end, "yanchor": side, "font": font}
            place = {"xref": "paper", "x0": left, "x1": 1, "yref": strip.yaxis, "y0": value, "y1": value}
            yield {"type": "line", "line": line, "label": text} | place


def _words(strips: Sequence[Strip]) -> str:
    """What the strips cannot show: values a log axis has no place for, and how much is missing."""
    said = []
    for strip in strips:
        for curve in strip.curves:
            hidden = int(np.count_nonzero(drawable(curve.column) <= 0)) if strip.log else 0
            if hidden:
                said.append(f"{curve.column.key}: {hidden} at or below 0, which a log axis cannot show")
            missing = int(np.count_nonzero(curve.column.missing))
            if missing:
                said.append(f"{curve.column.key}: {missing} missing")
    return "; ".join(said)
