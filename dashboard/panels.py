"""From a run and a panel's name to its drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from cockpit.dashboard.density import draw_density
from cockpit.dashboard.gather import gather, reads, users_of
from cockpit.dashboard.gauge import draw_gauge
from cockpit.dashboard.heatmap import draw_heatmap
from cockpit.dashboard.histogram import draw_histogram
from cockpit.dashboard.histogram2d import draw_histogram2d
from cockpit.dashboard.lines import draw_lines, empty_figure
from cockpit.dashboard.parabola import draw_parabola
from cockpit.dashboard.ridgelines import draw_ridgelines
from cockpit.dashboard.scene import STEPS, Manner, Scene
from cockpit.dashboard.source import Source
from cockpit.dashboard.theme import Drawing, Palette
from cockpit.drawing.arrange import keys_of
from cockpit.panel import Panel

DRAW: Mapping[str, Callable[[Scene], Drawing]] = {
    "lines": draw_lines,
    "histogram": draw_histogram,
    "histogram2d": draw_histogram2d,
    "gauge": draw_gauge,
    "parabola": draw_parabola,
    "heatmap": draw_heatmap,
    "ridgelines": draw_ridgelines,
    "density": draw_density,
}
OVER_STEPS = ("lines", "gauge", "heatmap", "density")  # drawings with an axis of steps or time, on which events stand
LOGARITHMIC = ("lines", "histogram", "histogram2d", "heatmap")  # whose values the reader may switch
LEFT_OUT = "{:,} more of your metrics have no room here; Compare draws any of them"
DEFAULT = Manner()


def draw(
    name: str, panel: Panel, source: Source, *, step: int | None, colours: Palette, log: bool,
    zoom: tuple[float, float] | None = None, manner: Manner = DEFAULT,
) -> Drawing:  # fmt: skip
    """Panel ``name`` of a run at ``step`` (the latest for ``None``).

    Args:
        name: The panel's name in the run's header.
        panel: The panel.
        source: The run.
        step: The selected step.
        colours: The colour scheme.
        log: Whether the value axis is logarithmic.
        zoom: A stretch of the horizontal axis that is looked at closely; there curves come in full detail.
        manner: How curves are drawn.
    """
    keys = keys_of(name, panel)
    if panel.kind not in DRAW:
        scene = Scene(panel, keys, colours=colours)
        return Drawing(empty_figure(scene), empty=f"This version of Cockpit cannot draw panels of kind “{panel.kind}”.")
    timeline = source.timeline(manner.measure, manner.zone) if panel.kind in OVER_STEPS else STEPS
    columns = gather(panel, keys, source, step, timeline.steps_between(*zoom) if zoom else None, log)
    clock = "" if columns else _promise(panel, keys, source)
    events = source.happened.ticks if panel.kind in OVER_STEPS else ()
    sampled = any(source.sampling(key) for key in keys)
    why = _why(keys, source)
    scene = Scene(panel, keys, columns, step, events, colours, log, clock, why, timeline, manner.smooth, sampled)
    beside = zoom, users_of(panel, source)[1]
    known = source.drawn.get(name)
    if known is None or known[1] != beside or not known[0].is_same(scene):
        known = source.drawn[name] = scene, beside, _drawn(scene, *beside)
    drawing: Drawing = known[2]
    return drawing


def _drawn(scene: Scene, zoom: tuple[float, float] | None, left_out: int) -> Drawing:
    drawing = DRAW[scene.panel.kind](scene)
    if zoom:
        _zoom_to(scene.timeline.ends(*zoom), drawing)
    if not left_out:
        return drawing
    return replace(drawing, words="; ".join(filter(None, (drawing.words, LEFT_OUT.format(left_out)))))


def _zoom_to(ends: list[float] | list[str], drawing: Drawing) -> None:
    """Shows a stretch of the horizontal axis, where the reader may choose one."""
    axis = drawing.figure["layout"]["xaxis"]
    if not axis["fixedrange"]:
        axis["range"] = ends


def _promise(panel: Panel, keys: tuple[str, ...], source: Source) -> str:
    """Why nothing is drawn, and when something will be."""
    kinds = {kind for key in keys for kind in source.kinds(key)}
    if reads(panel) in kinds:
        return "Nothing was logged at or before this step."
    if kinds and source.defined().isdisjoint(keys):  # of what is missing nobody knows whether it would have layers
        return f"{', '.join(keys)} is missing at every step so far. {_why(keys, source)}".strip()
    if kinds:
        return (
            f"{', '.join(keys)} is logged as {' and '.join(sorted(kinds))}, which a “{panel.kind}” panel does not draw."
        )
    errors = [event.text for event in source.happened.alarms if event.kind == "error"]
    reported = f" The run reports: {errors[-1]}" if errors else ""
    if source.state != "running":
        return f"Nothing was logged as {', '.join(keys)}.{reported}"
    when = [interval for key in keys if (interval := interval_of(key, source))]
    measured = f", measured {when[0]}" if when else ""
    return f"Appears with the first reading of {', '.join(keys)}{measured}.{reported}"


def _why(keys: tuple[str, ...], source: Source) -> str:
    """What the run said last of readings that are missing."""
    remarks = (source.happened.remarks.get(key.split(".", 1)[0]) for key in keys)
    said = [text for text in dict.fromkeys(remarks) if text]
    return f"The run says: {'; '.join(said)}." if said else ""


def interval_of(key: str, source: Source) -> str:
    """How often the instrument of ``key`` reads, in the run's own words."""
    settings = source.header.instruments.get(key.split(".", 1)[0])
    return str(settings.get("interval", "")) if isinstance(settings, Mapping) else ""
