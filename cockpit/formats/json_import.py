"""Logs of f-dangel/cockpit as runs: everything in them that has a place in a run."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cockpit.formats.json_log import HISTOGRAMS, KEYS, METRICS, NORMS, NUMBERS, SUMS, Output, read_json
from cockpit.instrument import registered
from cockpit.reading import Histogram, Histogram2d, Reading
from cockpit.run import Run, load_run
from cockpit.screens import SCREENS
from cockpit.store import Header, Writer
from cockpit.store.address import Place, place_of
from cockpit.tracking.description import panels_of

_UNDERSCORED = {metric.replace("/", "_"): metric for metric in METRICS}
_BATCH = 200  # steps that wait to be written at most


def import_json(path: str | Path, run: str | Place | None = None) -> tuple[Place, tuple[str, ...]]:
    """Makes a run of a log.

    Numbers by parameter, which have no names there, are those of ``parameter 0``, ``parameter 1``, and so on. Norms of
    the whole network are put together from them.

    Args:
        path: The JSON file.
        run: Directory or address of the run; by default ``runs/`` and the name of the file.

    Returns:
        Where the run is; and what is in the file that no run has a place for.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such log.
        RunExists: If there is a run already.
    """
    path = Path(path)
    output = read_json(path)
    place = Path("runs") / path.stem if run is None else place_of(run)
    # Absolute times, in seconds since 1970.
    began = min((values["Time"] for values in output.values() if "Time" in values), default=os.path.getmtime(path))
    writer = Writer(place, _header(place.name, began, output))
    left_out: dict[str, None] = {}
    try:
        for number, (step, values) in enumerate(output.items()):
            readings: dict[str, Reading] = {}
            for name, value in values.items():
                if (reading := _read(name, value, began, path)) is None:
                    left_out[name] = None
                else:
                    readings[KEYS.get(name, _UNDERSCORED.get(name, name))] = reading
            writer.put(step, float(values.get("Time", began)) - began, readings)
            if number % _BATCH == _BATCH - 1:
                writer.flush(60.0)
    finally:
        writer.close()
    return place, tuple(left_out)


def load_json(path: str | Path) -> Run:
    """Opens a log as a run that is nowhere: its files are gone with it.

    Args:
        path: The JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such log.
    """
    folder = tempfile.TemporaryDirectory(prefix="cockpit-")
    place, _ = import_json(path, Path(folder.name) / Path(path).stem)
    run = load_run(place)
    weakref.finalize(run, folder.cleanup)
    return run


def _header(name: str, began: float, output: Output) -> Header:
    keys = {KEYS[quantity] for values in output.values() for quantity in values if quantity in KEYS}
    instruments = [cls() for key, cls in registered().items() if key in keys]
    return Header(
        name=name,
        created=began,
        tags=("f-dangel/cockpit",),
        panels=panels_of(instruments),
        screens=SCREENS,
        instruments={instrument.name: {"interval": "as it was logged"} for instrument in instruments},
    )


def _read(name: str, value: Any, began: float, path: Path) -> Reading | None:
    """One entry; ``None`` where no run has a place for it."""
    try:
        return _reading(name, value, began)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} is no log of f-dangel/cockpit: its {name} cannot be read: {error}") from error


def _reading(name: str, value: Any, began: float) -> Reading | None:
    if value is None:
        return Reading(None)
    if name in HISTOGRAMS:
        own = {key: entry for key, entry in value.items() if key.startswith("param_") and key != "param_groups"}
        return Reading(_histogram(value), {f"parameter {key[6:]}": _histogram(entry) for key, entry in own.items()})
    if name in NORMS or name in SUMS:
        return _by_parameter([float(entry) for entry in value], name in SUMS)
    if name in NUMBERS or isinstance(value, (int, float)):
        return Reading(float(value) - (began if name == "Time" else 0.0))
    return None


def _by_parameter(values: Sequence[float], add: bool) -> Reading:
    total = sum(values) if add else sum(value**2 for value in values) ** 0.5
    return Reading(total, {f"parameter {i}": value for i, value in enumerate(values)})


def _histogram(entry: Mapping[str, Any]) -> Histogram | Histogram2d:
    counts = np.asarray(entry["hist"]).astype(np.int64)
    if counts.ndim == 1:
        return Histogram(counts, np.asarray(entry["edges"], np.float64))
    x, y = (np.asarray(axis, np.float64) for axis in entry["edges"])
    return Histogram2d(counts, x, y)
