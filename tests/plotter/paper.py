"""Pictures to look at: runs written by the real writer, their pages, and where text stands on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from cockpit import CockpitPlotter
from cockpit.panel import Panel
from cockpit.reading import Reading
from cockpit.screens import PANELS, SCREENS
from cockpit.store import Header, Writer

TOUCHING = 0.5  # pixels at 100 dots an inch by which boxes may meet


def panel(kind: Any = "lines", **settings: Any) -> Panel:
    return Panel(**{"title": "A panel", "kind": kind, "how_to_read": "Read it.", **settings})


def write_run(
    directory: Path, panels: dict[str, Panel], points: Sequence[tuple[int, dict[str, Reading]]],
    metrics: Sequence[tuple[int, dict[str, float | None]]] = (), screen: bool = True, name: str = "run",
) -> Path:  # fmt: skip
    """A finished run with these panels beside those of the screen."""
    model = {"class": "Sequential", "parameters": [{"name": "0.weight", "numel": 12}]}
    optimizer = [{"class": "SGD", "groups": []}]
    screens = SCREENS if screen else ()
    instruments = {key: {} for key in panels}
    header = Header(name, 0.0, panels={**panels, **(PANELS if screen else {})}, screens=screens,
                    instruments=instruments, model=model, optimizer=optimizer)  # fmt: skip
    writer = Writer(directory, header, capacity=10 * (len(points) + len(metrics)) + 100)  # it keeps all
    for step, readings in points:
        writer.put(step, 0.1 * step, readings)
    for step, values in metrics:
        writer.scalars(step, 0.1 * step, values)
    writer.close()
    return directory


def curve_run(
    directory: Path, values: Sequence[float | None], steps: Sequence[int] | None = None, **settings: Any
) -> Path:
    """A run with one panel of one curve."""
    at = range(len(values)) if steps is None else steps
    points = [(step, {"a": Reading(value)}) for step, value in zip(at, values, strict=True)]
    return write_run(directory, {"a": panel(**settings)}, points, screen=False)


def drawn(source: Any, **options: Any) -> Figure:
    figure = CockpitPlotter().plot(source, show_plot=False, **options)
    assert figure is not None
    return figure


def axes_with(figure: Figure, gid: str) -> Axes:
    (found,) = (axes for axes in figure.axes if any(artist.get_gid() == gid for artist in axes.get_children()))
    return found


def lines(figure: Figure, gid: str = "curve") -> dict[str, tuple[list[float], list[float]]]:
    """Points of all lines of this kind, by label."""
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for axes in figure.axes
        for line in axes.lines
        if line.get_gid() == gid
    }


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts if text.get_text()]


def boxes(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Every visible piece of text with its box in inches, tick labels too."""
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and not _of_hidden_tick(text, figure):
            yield text.get_text(), text.get_window_extent(renderer)


def _of_hidden_tick(text: Text, figure: Figure) -> bool:
    """Tick labels exist for ticks that are not drawn, too."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            for tick in axis.get_major_ticks():
                if text in (tick.label1, tick.label2):
                    low, high = sorted(axis.get_view_interval())
                    shown = text is tick.label1 and tick.label1.get_visible()
                    return not shown or not low <= tick.get_loc() <= high
    return False


def check_texts(figure: Figure) -> None:
    """No text stands on another one or reaches over the page's edge."""
    found = list(boxes(figure))
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in found:
        assert box.x0 >= 0, f"{text!r} reaches over the left edge"
        assert box.y0 >= 0, f"{text!r} reaches over the lower edge"
        assert box.x1 <= width, f"{text!r} reaches over the right edge"
        assert box.y1 <= height, f"{text!r} reaches over the upper edge"
    for (one, first), (other, second) in itertools.combinations(found, 2):
        wide = min(first.x1, second.x1) - max(first.x0, second.x0)
        high = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert min(wide, high) <= TOUCHING, f"{one!r} stands on {other!r}"
