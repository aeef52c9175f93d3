"""From a run and a panel's name to its drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cockpit.dashboard.gauge import draw_gauge
from cockpit.dashboard.histogram import ZEROS, draw_histogram
from cockpit.dashboard.histogram2d import draw_histogram2d
from cockpit.dashboard.lines import draw_lines, empty_figure
from cockpit.dashboard.parabola import draw_parabola
from cockpit.dashboard.scene import Scene
from cockpit.dashboard.source import Source
from cockpit.dashboard.theme import Drawing, Palette
from cockpit.drawing.arrange import keys_of
from cockpit.drawing.bars import SAMPLES
from cockpit.drawing.positions import CONCAVE, UPHILL
from cockpit.panel import Panel
from cockpit.store import Column

DRAW: Mapping[str, Callable[[Scene], Drawing]] = {
    "lines": draw_lines,
    "histogram": draw_histogram,
    "histogram2d": draw_histogram2d,
    "gauge": draw_gauge,
    "parabola": draw_parabola,
}
HISTOGRAMS = ("histogram", "histogram2d")  # what these read is called as they are; all others draw scalars
OVER_STEPS = ("lines", "gauge")  # drawings with a step axis, on which events stand
LOGARITHMIC = ("lines", *HISTOGRAMS)  # drawings whose value axis the reader may switch


def draw(
    name: str, panel: Panel, source: Source, *, step: int | None, colours: Palette, log: bool,
    zoom: tuple[int, int] | None = None,
) -> Drawing:  # fmt: skip
    """Panel ``name`` of a run at ``step`` (the latest for ``None``).

    Args:
        name: The panel's name in the run's header.
        panel: The panel.
        source: The run.
        step: The selected step.
        colours: The colour scheme.
        log: Whether the value axis is logarithmic.
        zoom: Steps that are looked at closely, for which curves come in full detail.
    """
    keys = keys_of(name, panel)
    if panel.kind not in DRAW:
        scene = Scene(panel, keys, colours=colours)
        return Drawing(empty_figure(scene), empty=f"This version of Cockpit cannot draw panels of kind “{panel.kind}”.")
    columns = _columns(panel, keys, source, step, zoom)
    clock = "" if columns else _promise(panel, keys, source)
    events = source.events if panel.kind in OVER_STEPS else ()
    return DRAW[panel.kind](Scene(panel, keys, columns, step, events, colours, log, clock))


def _columns(
    panel: Panel, keys: tuple[str, ...], source: Source, step: int | None, zoom: tuple[int, int] | None
) -> dict[str, Column]:
    if panel.kind in HISTOGRAMS:
        found = {key: source.histogram(key, panel.kind, step) for key in keys}
        found |= {key + part: source.scalars(key + part) for key in keys for part in (ZEROS, SAMPLES)}
    elif panel.kind == "parabola":
        companions = [key + suffix for key in keys for suffix in (CONCAVE, UPHILL)]
        found = {key: source.scalars(key, exact=True) for key in (*keys, *companions)}
    else:
        users = source.keys("user") if panel.user_metrics else []
        found = {key: source.closeup(key, zoom) if zoom else source.scalars(key) for key in (*keys, *users)}
    return {key: column for key, column in found.items() if column is not None and len(column.steps)}


def _promise(panel: Panel, keys: tuple[str, ...], source: Source) -> str:
    """Why nothing is drawn, and when something will be."""
    read = panel.kind if panel.kind in HISTOGRAMS else "scalar"
    others = sorted({kind for key in keys for kind in source.kinds(key) if kind != read})
    if others:
        return f"{', '.join(keys)} is logged as {' and '.join(others)}, which a “{panel.kind}” panel does not draw."
    if read in {kind for key in keys for kind in source.kinds(key)}:
        return "Nothing was logged at or before this step."
    errors = [event.text for event in source.events if event.kind == "error"]
    reported = f" The run reports: {errors[-1]}" if errors else ""
    if source.state != "running":
        return f"Nothing was logged as {', '.join(keys)}.{reported}"
    when = [interval for key in keys if (interval := _interval(key, source))]
    measured = f", measured {when[0]}" if when else ""
    return f"Appears with the first reading of {', '.join(keys)}{measured}.{reported}"


def _interval(key: str, source: Source) -> str:
    """How often the instrument of ``key`` reads, in the run's own words."""
    settings = source.header.instruments.get(key.split(".", 1)[0])
    return str(settings.get("interval", "")) if isinstance(settings, Mapping) else ""
