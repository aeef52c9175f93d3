"""Logs for the tests of sinks, and what TensorBoard and W&B have made of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf, nan
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from patience import until

from cockpit.reading import Histogram, Histogram2d, Reading
from cockpit.store import Header, Writer

BEGAN = 1.7e9
EDGES = np.array([-1.0, 0.0, 0.5, 1.0])
COUNTS = np.array([0, 5, 2**40])
NOTHING = Histogram(np.zeros(2, int), EDGES[:3])
SHORT = Histogram(np.array([7]), np.array([1e-9, 1e9]))


def header(name: str = "run", **settings: Any) -> Header:
    config = {"lr": 0.1, "data": {"name": "digits", "sizes": [8, 8]}, "augment": True}
    described = {"created": BEGAN, "config": config, "tags": ("first",), "optimizer": [{"class": "SGD"}], **settings}
    return Header(name, **described)


def put(writer: Writer, steps: Iterable[int], value: float = 0.1) -> None:
    for step in steps:
        writer.put(step, 0.25 * step, {"loss": Reading(value + step, {"fc.weight": 1.0, "fc.bias": 0.5 * step})})


def write_everything(place: Path | str, **options: Any) -> Path:
    """A gap, numbers that are not finite, layers that come and go, histograms of all kinds, arrays, events, metrics."""
    writer = Writer(place, header(), **options)
    writer.put(0, 0.5, {"loss": Reading(2.1), "grad_norm": Reading(1.0, {"a": 0.5, "b": inf}), "odd": Reading(nan)})
    writer.put(1, 1.0, {"loss": Reading(None), "grad_norm": Reading(-inf, {"a": None, "c": nan})})
    writer.put(7, 1.5, {"hist": Reading(Histogram(COUNTS, EDGES), {"a": SHORT, "b": NOTHING})})
    writer.put(
        8, 2.0, {"hist": Reading(None), "pairs": Reading(Histogram2d(np.ones((1, 2), int), EDGES[:2], EDGES[1:]))}
    )
    writer.put(5, 2.5, {"loss": Reading(1e-300), "theta": Reading(3.0, arrays={"a": np.zeros(3)})})
    writer.scalars(8, 3.0, {"valid/accuracy": 0.25})
    writer.event(1, 1.0, "warning", "one <b>sample</b>", "alpha")
    writer.event(1, 1.1, "info", "and another")
    writer.event(None, 3.5, "info", "at no step")
    writer.close()
    return writer.path


NUMBERS = {
    "loss": [(0, 0.5, 2.1), (5, 2.5, 1e-300)],
    "grad_norm": [(0, 0.5, 1.0), (1, 1.0, -inf)],
    "grad_norm/a": [(0, 0.5, 0.5)],
    "grad_norm/b": [(0, 0.5, inf)],
    "grad_norm/c": [(1, 1.0, nan)],
    "odd": [(0, 0.5, nan)],
    "theta": [(5, 2.5, 3.0)],
    "valid/accuracy": [(8, 3.0, 0.25)],
}
"""What :func:`write_everything` writes, by tag: step, time and value."""

HISTOGRAMS = {
    "hist": [(7, 1.5, Histogram(COUNTS, EDGES))],
    "hist/a": [(7, 1.5, SHORT)],
    "hist/b": [(7, 1.5, NOTHING)],
}


Bins: TypeAlias = "list[tuple[float, float, float]]"
"""Edges and counts."""


@dataclass
class Events:
    """What TensorBoard's own reader finds in a directory: by tag, step, seconds since :data:`BEGAN`, and value."""

    numbers: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    histograms: dict[str, list[tuple[int, float, Bins]]] = field(default_factory=dict)
    texts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def read_events(directory: Path) -> Events:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data
    from tensorboard.util.tensor_util import make_ndarray

    reader = EventAccumulator(str(directory), {"scalars": 0, "tensors": 0})
    reader.Reload()
    found = Events()
    for tag in reader.Tags()["scalars"]:
        found.numbers[tag] = [(entry.step, entry.wall_time - BEGAN, entry.value) for entry in reader.Scalars(tag)]
    for tag in reader.Tags()["tensors"]:
        plugin = reader.SummaryMetadata(tag).plugin_data.plugin_name
        for entry in reader.Tensors(tag):
            value = make_ndarray(entry.tensor_proto)
            if plugin == "histograms":
                assert value.dtype == np.float64
                bins = [tuple(row) for row in value.tolist()]
                found.histograms.setdefault(tag, []).append((entry.step, entry.wall_time - BEGAN, bins))
            elif plugin == "text":
                found.texts.setdefault(tag, []).append((entry.step, value.item().decode()))
    for content in reader.summary_metadata.values():
        if content.plugin_data.plugin_name == "hparams":
            info = parse_session_start_info_plugin_data(content.plugin_data.content)
            found.settings = {name: getattr(value, value.WhichOneof("kind")) for name, value in info.hparams.items()}
    return found


_BLOCK = 32 * 1024
_WHOLE, _LAST = 1, 4


def read_wandb(path: Path) -> list[Any]:
    """The records of a ``.wandb`` file, which is a log of LevelDB's: its reader is no longer in the package."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts, records = path.read_bytes(), 7, b"", []
    assert data[:4] in (b":W&B", b"")  # nothing yet
    while at + 7 <= len(data):
        if _BLOCK - at % _BLOCK < 7:  # a record's head is in one block
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if at + 7 + length > len(data):  # it is still being written
            break
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (_WHOLE, _LAST):
            records.append(Record.FromString(parts))
            parts = b""
    return records


@dataclass
class Logged:
    """What is in one file of W&B's: rows of its history, configuration, and the run's name and exit code."""

    rows: list[dict[str, Any]]
    config: dict[str, Any]
    name: str
    tags: list[str]
    exit_code: int


def read_history(path: Path) -> Logged:
    """Once the run is over, and W&B's service has let go of its file."""
    until(lambda: any(record.HasField("exit") for record in read_wandb(path)))
    records = read_wandb(path)
    runs = [record.run for record in records if record.HasField("run")]
    configs = [run.config for run in runs] + [record.config for record in records if record.HasField("config")]
    config = {name: value for each in configs for name, value in _nested(each.update).items()}
    (exit_code,) = [record.exit.exit_code for record in records if record.HasField("exit")]
    return Logged(rows_of(records), config, runs[0].display_name, list(runs[0].tags), exit_code)


def rows_of(records: Iterable[Any]) -> list[dict[str, Any]]:
    """Those of the history among W&B's records."""
    return [_nested(record.history.item) for record in records if record.HasField("history")]


def _nested(items: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        inner = found
        *outer, last = item.nested_key or [item.key]
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = json.loads(item.value_json)
    return found
