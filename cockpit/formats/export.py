"""A run's points as CSV or JSON, and its panels as a picture."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from typing import IO, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from cockpit.layers import Layers
from cockpit.logged import Quantity
from cockpit.run import Run
from cockpit.store import Column

NUMBERS = 1 << 18
"""Numbers that an export of all points holds at a time, about."""


def to_csv(run: Run, file: TextIO) -> None:
    """Write one line per step and one column per scalar quantity, in order of appearance.

    Of several processes each has lines of its own, one process after the other, with its rank in the first column.

    A cell is empty where a quantity has no value at that step; what is not finite is ``nan``, ``inf`` or ``-inf``.
    Values per layer and histograms are left out: :func:`to_json` has them. Arrays are left out, see :func:`arrays_of`.
    However long the run is, a stretch of it is held at a time.

    Raises:
        UnreadableLog: If a process's log cannot be read; names it.
    """
    readers = [run.reader.rank(rank) for rank in run.ranks]
    scalars = [{entry.key: entry.points for entry in each.series() if entry.kind == "scalar"} for each in readers]
    keys = list(dict.fromkeys(key for each in scalars for key in each))
    writer, several = csv.writer(file, lineterminator="\n"), len(readers) > 1
    writer.writerow([*(["rank"] if several else []), "step", *keys])
    for reader, points in zip(readers, scalars, strict=True):
        if not points:
            continue
        whose = [reader.number] if several else []
        longest = max(points, key=lambda key: points[key])
        for steps in reader.stretches(longest, "scalar", max(1, NUMBERS // len(keys))):
            columns = [reader.column(key, "scalar", steps=steps) if key in points else None for key in keys]
            writer.writerows([*whose, *line] for line in _lines(columns))


def to_json(run: Run, file: TextIO) -> None:
    """Write everything that a run's log holds as one JSON object, arrays excepted, see :func:`arrays_of`.

    Missing values are ``null``; values that are not finite are the strings ``NaN``, ``Infinity``, ``-Infinity``. Of
    several processes the first one's are ``series``, and those of each other one are in ``ranks``, by its rank.

    Raises:
        UnreadableLog: If a process's log cannot be read; names it.
    """
    content = {
        "name": run.name,
        "state": run.state,
        "created": run.header.created,
        "config": dict(run.config),
        "tags": list(run.tags),
        "series": _series(run),
    }
    others = [rank for rank in run.ranks if rank != run.reader.number]
    if others:
        content["ranks"] = {rank: {"series": _series(run.rank(rank))} for rank in others}
    json.dump(content, file, allow_nan=False)
    file.write("\n")


def arrays_of(run: Run) -> list[str]:
    """Keys under which a run holds arrays: millions of numbers at each step, of which no export makes a text."""
    return list(dict.fromkeys(entry.key for entry in run.reader.series() if entry.kind == "arrays"))


def to_picture(run: Run, file: IO[bytes], kind: str) -> None:
    """Write the static screen as ``png``, ``svg`` or ``pdf``."""
    from cockpit.plotter import CockpitPlotter, write

    figure = CockpitPlotter().plot(run, show_plot=False)
    assert figure is not None  # of a run there always is one
    write(figure, file, format=kind)


def _lines(columns: Sequence[Column | None]) -> list[list[float | str]]:
    """For each step of any of the columns itself and a cell for each of them; ``None`` has no values."""
    steps = np.unique(np.concatenate([column.steps for column in columns if column is not None]))
    lines: list[list[float | str]] = [[step, *([""] * len(columns))] for step in steps.tolist()]
    for place, column in enumerate(columns, 1):
        if column is None:
            continue
        known = ~column.missing
        rows = np.searchsorted(steps, column.steps[known]).tolist()
        for row, value in zip(rows, column.values[known].tolist(), strict=True):
            lines[row][place] = value
    return lines


def _series(run: Run) -> dict[str, Any]:
    return {key: _quantity(run[key]) for key in run.keys()}  # noqa: SIM118, not a dict


def _quantity(quantity: Quantity) -> dict[str, Any]:
    content = _points(quantity) if len(quantity.steps) else {}
    if quantity.layers is not None:
        content["layers"] = {"names": list(quantity.layers.names), **_points(quantity.layers)}
    return content


def _points(points: Quantity | Layers) -> dict[str, Any]:
    content: dict[str, Any] = {"steps": points.steps.tolist(), "times": points.times.tolist()}
    for name, edges in (("edges", points.edges), ("y_edges", points.y_edges)):
        if edges is not None:
            content[name] = _plain(edges, np.isnan(edges))
    content["values"] = _plain(points.values, points.missing)
    return content


def _plain(values: NDArray[Any], missing: NDArray[np.bool_]) -> list[Any]:
    """Nested lists of the values, with ``None`` where they are missing and words where they are not finite."""
    if missing.ndim > 1:
        return [_plain(row, gaps) for row, gaps in zip(values, missing, strict=True)]
    return [None if gap else _element(value) for value, gap in zip(values.tolist(), missing.tolist(), strict=True)]


def _element(value: float | list[int]) -> float | list[int] | str:
    if isinstance(value, list) or math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
