"""Columns to draw, and a look into what was drawn."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cockpit.panel import Panel
from cockpit.store import Column, Event


def scalars(key: str, values: Sequence[float | None], steps: Sequence[int] | None = None) -> Column:
    """A column of ``values``, ``None`` where missing, by default at steps 0, 10, 20 …"""
    missing = np.array([value is None for value in values], dtype=bool)
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    at = np.array(range(0, 10 * len(values), 10) if steps is None else steps, dtype=np.int64)
    return Column(key, "scalar", at, at * 0.1, numbers, missing)


def histogram(key: str, counts: Sequence[int], edges: Sequence[float], step: int = 0) -> Column:
    at = np.array([step], dtype=np.int64)
    edge = np.array(edges, dtype=np.float64)
    return Column(key, "histogram", at, at * 0.1, np.array([counts], dtype=np.int64), np.array([False]), edges=edge)


def pairs(key: str, counts: Any, x: Sequence[float], y: Sequence[float], step: int = 0) -> Column:
    at, table = np.array([step], dtype=np.int64), np.array([counts], dtype=np.int64)
    edges = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
    return Column(key, "histogram2d", at, at * 0.1, table, np.array([False]), (), *edges)


def layers(key: str, values: Any, names: Sequence[str], steps: Sequence[int] | None = None) -> Column:
    """A layer-wise column, ``values[step][layer]``, ``nan`` where missing."""
    table = np.array(values, dtype=np.float64)
    at = np.array(range(0, 10 * len(table), 10) if steps is None else steps, dtype=np.int64)
    return Column(key, "layers", at, at * 0.1, table, np.isnan(table), tuple(names))


def layer_histograms(key: str, counts: Any, names: Sequence[str], edges: Sequence[float], step: int = 0) -> Column:
    at, table = np.array([step], dtype=np.int64), np.array([counts], dtype=np.int64)
    missing = np.zeros(table.shape[:2], dtype=bool)
    return Column(
        key, "layer_histograms", at, at * 0.1, table, missing, tuple(names), np.array(edges, dtype=np.float64)
    )


def panel(kind: Any = "lines", **settings: Any) -> Panel:
    return Panel(title="A panel", kind=kind, how_to_read="Read it.", **settings)


def event(kind: str, step: int | None, text: str = "", subject: str = "", id: int = 1) -> Event:
    return Event(id, step, 0.0, kind, text, subject)


def checked(figure: dict[str, Any]) -> dict[str, Any]:
    """The figure, after plotly has looked at every property of it; raises ``ValueError`` for an unknown one."""
    go.Figure(figure)
    return figure


def plain_array(spec: Any) -> np.ndarray[Any, Any]:
    """The numbers of a trace's array."""
    if isinstance(spec, dict):
        numbers = np.frombuffer(base64.b64decode(spec["bdata"]), dtype=spec["dtype"])
        return numbers.reshape([int(size) for size in spec["shape"].split(",")]) if "shape" in spec else numbers
    return np.array(spec)


def curves(figure: dict[str, Any], mode: str = "lines") -> list[dict[str, Any]]:
    return [trace for trace in figure["data"] if trace.get("mode") == mode]


def texts(figure: dict[str, Any]) -> list[str]:
    return [annotation["text"] for annotation in figure["layout"].get("annotations", ())]
