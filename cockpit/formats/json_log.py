"""Logs in the JSON that f-dangel/cockpit writes and its plotter reads: by step, then by the name of the quantity.

A number stays a number; a list holds one number for each parameter; a histogram is ``{"hist", "edges"}`` with arrays.
Arrays are written as ``{"__ndarray__", "dtype", "shape"}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cockpit.layers import Layers
from cockpit.logged import Quantity
from cockpit.run import Run

Output: TypeAlias = "dict[int, dict[str, Any]]"

NUMBERS = {
    "Alpha": "alpha",
    "CABS": "cabs",
    "EarlyStopping": "early_stopping",
    "HessMaxEV": "hess_max_ev",
    "InnerTest": "inner_test",
    "Loss": "loss",
    "MeanGSNR": "mean_gsnr",
    "NormTest": "norm_test",
    "OrthoTest": "ortho_test",
    "TICDiag": "tic_diag",
    "TICTrace": "tic_trace",
    "Time": "time",
}
NORMS = {"Distance": "distance", "GradNorm": "grad_norm", "UpdateSize": "update_size"}
SUMS = {"HessTrace": "hess_trace"}
HISTOGRAMS = {"GradHist1d": "grad_hist_1d", "GradHist2d": "grad_hist_2d"}
KEYS = NUMBERS | NORMS | SUMS | HISTOGRAMS
"""Names of quantities, and the log keys of their instruments."""

METRICS = (
    *("epoch_count", "train/loss", "valid/loss", "test/loss"),
    *("train/accuracy", "valid/accuracy", "test/accuracy"),
)
"""What is known once an epoch."""


def output_of(run: Run) -> Output:
    """What a run's log holds, in that form: scalars without a name there by their own key, ``_`` in place of ``/``.

    Values that are missing are left out. Of what is logged by layer, only what has a name is there.
    """
    output: Output = {}
    names = {key: name for name, key in KEYS.items()}
    for key in run.keys():  # noqa: SIM118, not a dict
        quantity, name = run[key], names.get(key, key.replace("/", "_"))
        for step, value in _points(quantity, name):
            output.setdefault(step, {})[name] = value + run.header.created if name == "Time" else value
    return dict(sorted(output.items()))


def _points(quantity: Quantity, name: str) -> Iterator[tuple[int, Any]]:
    """Steps and values of one name."""
    points: Quantity | Layers = quantity
    if name in NORMS or name in SUMS:
        if quantity.layers is None:
            return
        points = quantity.layers
    elif quantity.values.ndim > 1 and name not in HISTOGRAMS:
        return
    for i, step in enumerate(points.steps.tolist()):
        if not bool(points.missing[i].all()):
            yield step, _value(points, i)


def _value(points: Quantity | Layers, i: int) -> Any:
    value, edges = points.values[i], points.edges
    if edges is None:
        return value.tolist()
    bounds = [axis[i] if axis.ndim > 1 else axis for axis in (edges, points.y_edges) if axis is not None]
    return {"hist": value.astype(np.float64), "edges": bounds[0] if len(bounds) == 1 else bounds}


def write_json(output: Output, logpath: str | Path) -> Path:
    """Writes a log.

    Args:
        output: As :func:`output_of` gives it.
        logpath: The file, without its ending ``.json``; folders are made.

    Returns:
        The file.
    """
    path = Path(f"{logpath}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(output, indent=4, sort_keys=True, default=_encoded), encoding="utf-8")
    return path


def _encoded(array: NDArray[Any]) -> dict[str, Any]:
    return {"__ndarray__": array.tolist(), "dtype": str(array.dtype), "shape": list(array.shape)}


def read_json(path: str | Path) -> Output:
    """Reads a log.

    Args:
        path: The file, with its ending.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no such log.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"), object_hook=_decoded)
        return {int(step): dict(values) for step, values in sorted(data.items(), key=lambda item: int(item[0]))}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no log of f-dangel/cockpit: {error}") from error


def _decoded(entry: dict[str, Any]) -> Any:
    if "__ndarray__" not in entry:
        return entry
    return np.asarray(entry["__ndarray__"], dtype=entry.get("dtype")).reshape(entry.get("shape", -1))
