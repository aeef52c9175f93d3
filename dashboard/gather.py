"""What a panel needs of a run: which of its keys, in which kinds, at which steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

from cockpit.dashboard.histogram import ZEROS
from cockpit.dashboard.source import Source
from cockpit.drawing import ridges
from cockpit.drawing.bars import SAMPLES
from cockpit.drawing.cells import AT
from cockpit.drawing.columns import of_layers
from cockpit.drawing.metrics import alike, first_of
from cockpit.drawing.positions import CONCAVE, UPHILL
from cockpit.panel import Panel
from cockpit.store import Column

Found: TypeAlias = "Iterator[tuple[str, Column | None]]"

MOST_STRIPS = 24  # of the user's metrics
MOST_CURVES = 12  # of them in one strip
READS = {"histogram": "histogram", "histogram2d": "histogram2d", "heatmap": "layers", "ridgelines": "layer_histograms"}


def reads(panel: Panel) -> str:
    """The kind of series that the panel's keys are read as."""
    return READS.get(panel.kind, "scalar")


def gather(
    panel: Panel, keys: tuple[str, ...], source: Source, step: int | None, steps: tuple[int, int] | None, log: bool
) -> dict[str, Column]:
    """The points that a panel shows, by key; keys without points are absent.

    Args:
        panel: The panel.
        keys: Its keys.
        source: The run.
        step: The selected step; ``None`` for the latest.
        steps: First and last of the steps for which curves come in full detail, if some are looked at closely.
        log: Whether its value axis is logarithmic.
    """
    kinds: dict[str, Callable[..., Found]] = {
        "histogram": _histograms,
        "histogram2d": _histograms,
        "ridgelines": _ridges,
        "heatmap": partial(_layers, log=log),
        "parabola": _positions,
        "density": _positions,
    }
    own = kinds.get(panel.kind)
    entries = _curves(panel, keys, source, step, steps) if own is None else own(panel, keys, source, step)
    return {key: column for key, column in entries if column is not None and len(column.steps)}


def _histograms(panel: Panel, keys: tuple[str, ...], source: Source, step: int | None) -> Found:
    for key in keys:
        yield key, source.at(key, panel.kind, step)
        for part in (ZEROS, SAMPLES):
            yield key + part, source.scalars(key + part)


def _ridges(panel: Panel, keys: tuple[str, ...], source: Source, step: int | None) -> Found:
    for key in keys:
        column = source.at(key, "layer_histograms", step)
        yield key, None if column is None else of_layers(column, source.in_order(column.layers))
        yield key + ridges.FIRST, source.first(key, "layer_histograms")
        yield key + ridges.ZEROS, source.at(key + ridges.ZEROS, "layers", step)
    for key, _ in panel.thresholds:
        yield key, source.scalars(key)


def _layers(panel: Panel, keys: tuple[str, ...], source: Source, step: int | None, *, log: bool) -> Found:
    for key in keys:
        yield key, source.layers(key, log=log)
        yield key + AT, source.at(key, "layers", step)


def _positions(panel: Panel, keys: tuple[str, ...], source: Source, step: int | None) -> Found:
    for key in keys:
        for name in (key, key + CONCAVE, key + UPHILL):
            yield name, source.sampled(name, step)


def users_of(panel: Panel, source: Source) -> tuple[list[str], int]:
    """The user's metrics that a panel shows, and how many more there would be than it has room for."""
    users = source.keys("user")
    joining = alike(users, panel.like)
    others = sorted({*users} - {*joining}) if panel.user_metrics else []
    shown = [*joining[:MOST_CURVES], *first_of(others, MOST_STRIPS, MOST_CURVES)]
    return shown, len(joining) + len(others) - len(shown)


def _curves(
    panel: Panel, keys: tuple[str, ...], source: Source, step: int | None, steps: tuple[int, int] | None
) -> Found:
    """Curves with what stands beside them, and the user's metrics where the panel asks for all of them or some."""
    beside = [*(panel.band or ()), *([panel.error] if panel.error else []), *(key for key, _ in panel.thresholds)]
    users, _ = users_of(panel, source)
    for key in (*keys, *beside, *users):
        yield key, source.closeup(key, steps) if steps else source.scalars(key)
    for key, _ in panel.shares:  # a share of thinned points would be another
        yield key, source.sampled(key, step)
