"""A run's points as CSV or JSON, and its panels as a picture."""

from __future__ import annotations

import csv
import json
import math
from typing import IO, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from cockpit.layers import Layers
from cockpit.run import Quantity, Run


def to_csv(run: Run, file: TextIO) -> None:
    """Write one line per step and one column per scalar quantity, in order of appearance.

    A cell is empty where a quantity has no value at that step; what is not finite is ``nan``, ``inf`` or ``-inf``.
    Values per layer and histograms are left out: :func:`to_json` has them. Arrays are left out, see :func:`arrays_of`.
    """
    quantities = [quantity for key in run.keys() if _is_scalar(quantity := run[key])]  # noqa: SIM118, not a dict
    rows: dict[int, dict[str, float]] = {}
    for quantity in quantities:
        points = zip(quantity.steps.tolist(), quantity.values.tolist(), quantity.missing.tolist(), strict=True)
        for step, value, missing in points:
            row = rows.setdefault(step, {})
            if not missing:
                row[quantity.key] = value
    writer = csv.DictWriter(file, ["step", *(quantity.key for quantity in quantities)], lineterminator="\n")
    writer.writeheader()
    for step in sorted(rows):
        writer.writerow({**rows[step], "step": step})


def to_json(run: Run, file: TextIO) -> None:
    """Write everything that a run's log holds as one JSON object, arrays excepted, see :func:`arrays_of`.

    Missing values are ``null``; values that are not finite are the strings ``NaN``, ``Infinity``, ``-Infinity``.
    """
    content = {
        "name": run.name,
        "state": run.state,
        "created": run.header.created,
        "config": dict(run.config),
        "tags": list(run.tags),
        "series": {key: _quantity(run[key]) for key in run.keys()},  # noqa: SIM118, not a dict
    }
    json.dump(content, file, allow_nan=False)
    file.write("\n")


def arrays_of(run: Run) -> list[str]:
    """Keys under which a run holds arrays: millions of numbers at each step, of which no export makes a text."""
    return list(dict.fromkeys(entry.key for entry in run.reader.series() if entry.kind == "arrays"))


def to_picture(run: Run, file: IO[bytes], kind: str) -> None:
    """Write the static screen as ``png`` or ``pdf``."""
    from cockpit.plotter import CockpitPlotter, write

    figure = CockpitPlotter().plot(run, show_plot=False)
    assert figure is not None  # of a run there always is one
    write(figure, file, format=kind)


def _is_scalar(quantity: Quantity) -> bool:
    return len(quantity.steps) > 0 and quantity.values.ndim == 1


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
