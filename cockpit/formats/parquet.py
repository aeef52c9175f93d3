"""All points of a run as one Parquet file: one long table, the same for every kind of series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cockpit.store import Column, Reader, Series
from cockpit.store.plain import dumps

try:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter
except ImportError as error:
    raise ImportError(f"Parquet needs pyarrow: `pip install 'cockpit-debugger[parquet]'` ({error})") from error

if TYPE_CHECKING:
    from cockpit.run import Run

Cells: TypeAlias = "dict[str, Any]"
"""Columns of the table by name, each an array; those that are absent are null."""

NUMBERS = 1 << 19
"""Numbers that are held at a time, about; a row group has as many."""

_WORD = pa.dictionary(pa.int32(), pa.string())
_FIELDS: dict[str, Any] = {
    "rank": pa.int32(),
    "key": _WORD,
    "kind": _WORD,
    "origin": _WORD,
    "layer": _WORD,
    "step": pa.int64(),
    "time": pa.float64(),
    "value": pa.float64(),
    "counts": pa.list_(pa.int64()),
    "edges": pa.list_(pa.float64()),
    "y_edges": pa.list_(pa.float64()),
    "array": pa.list_(pa.float64()),
    "shape": pa.list_(pa.int64()),
    "dtype": _WORD,
}


def to_parquet(run: Run, file: str | Path | IO[bytes]) -> None:
    """Write every point of every series, in order of appearance, each series in step order.

    A row is one value of one series at one step, of layer-wise series one for each layer:

    - ``rank``: of the process that read it, 0 for a run of one process; one comes after the other;
    - ``key``, ``kind`` (see :class:`cockpit.store.Column`), ``origin`` (``instrument`` or ``user``);
    - ``layer``: its name; null for what is the network's. Of arrays the name;
    - ``step``, and ``time`` in seconds since the run began;
    - ``value``: null where it is missing, which NaN is not. A layer that is not there may lack the row instead;
    - ``counts`` of a histogram, with ``edges``; of pairs row by row, with ``edges`` of the first and ``y_edges`` of the
      second number; null where it is missing;
    - ``array``: an array's numbers row by row, with ``shape`` and ``dtype``.

    The file's metadata hold name, state, configuration, tags and notes as JSON under ``cockpit``. A stretch of steps is
    held at a time, however long the run is.

    Args:
        run: The run.
        file: Where to write; of a file that is open it need be nothing but writable.

    Raises:
        UnreadableLog: If a process's log cannot be read; names it.
    """
    about = {"name": run.name, "state": run.state, "created": run.header.created, "config": run.config}
    about |= {"tags": run.tags, "notes": run.notes}
    schema = pa.schema(_FIELDS.items(), metadata={"cockpit": dumps(about)})
    with ParquetWriter(file, schema, compression="zstd") as writer:
        group: list[Any] = []
        held = 0
        for batch in _batches([run.reader.rank(rank) for rank in run.ranks], schema):
            group.append(batch)
            held += batch.nbytes // 8
            if held >= NUMBERS:
                writer.write_table(pa.Table.from_batches(group))
                group, held = [], 0
        if group:
            writer.write_table(pa.Table.from_batches(group))


def _batches(readers: Sequence[Reader], schema: Any) -> Iterator[Any]:
    """All rows, as many at a time as are read at a time."""
    for reader in readers:
        for entry in reader.series():
            for cells in _blocks(reader, entry):
                yield _batch(entry, cells | {"rank": np.full(len(cells["step"]), reader.number, np.int32)}, schema)


def _blocks(reader: Reader, entry: Series) -> Iterator[Cells]:
    """The rows of a series, a stretch of steps at a time."""
    one = reader.at(entry.key, entry.last_step, entry.kind)
    for steps in reader.stretches(entry.key, entry.kind, max(1, NUMBERS // max(1, one.values.size))):
        column = reader.column(entry.key, entry.kind, steps=steps)
        if entry.kind == "arrays":
            for step, time in zip(column.steps.tolist(), column.times.tolist(), strict=True):
                yield _arrays(reader, entry.key, step, time)
        elif len(column):
            yield _cells(column)


def _cells(column: Column) -> Cells:
    """A row for each point, or for each layer of each."""
    layers = max(1, len(column.layers)) if column.missing.ndim > 1 else 1
    cells: Cells = {"step": np.repeat(column.steps, layers), "time": np.repeat(column.times, layers)}
    if column.missing.ndim > 1:
        cells["layer"] = _words(np.tile(np.arange(layers, dtype=np.int32), len(column)), column.layers)
    missing = column.missing.reshape(-1)
    if column.edges is None:
        return cells | {"value": pa.array(column.values.reshape(-1), mask=missing)}
    return cells | _histograms(column, missing)


def _histograms(column: Column, missing: NDArray[np.bool_]) -> Cells:
    """Counts and edges as they were logged: without the bins of no width that make histograms of a column alike."""
    assert column.edges is not None
    counts = column.values.astype(np.int64, copy=False)
    counts = counts.reshape(len(missing), *counts.shape[column.missing.ndim :])
    axes = [column.edges] if column.y_edges is None else [column.edges, column.y_edges]
    rows = [np.broadcast_to(axis, (*column.missing.shape, axis.shape[-1])).reshape(len(missing), -1) for axis in axes]
    lists: list[list[Any]] = [[] for _ in range(1 + len(axes))]
    for row, gap in enumerate(missing.tolist()):
        bins = [_bins(axis[row], counts[row], number) for number, axis in enumerate(rows)]
        own = counts[row][tuple(map(slice, bins))].reshape(-1)
        found = [own, *(axis[row, : last + 1] for axis, last in zip(rows, bins, strict=True))]
        for cell, numbers in zip(lists, found, strict=True):
            cell.append(None if gap else numbers)
    names = ("counts", "edges", "y_edges")
    return {name: pa.array(cell, _FIELDS[name]) for name, cell in zip(names, lists, strict=False)}


def _bins(edges: NDArray[np.float64], counts: NDArray[np.int64], axis: int) -> int:
    """How many bins a histogram has on one of its axes: up to the last that has a width, or anything in it."""
    others = tuple(other for other in range(counts.ndim) if other != axis)
    used = np.flatnonzero((edges[1:] != edges[:-1]) | counts.any(others))
    return int(used[-1]) + 1 if len(used) else 0


def _arrays(reader: Reader, key: str, step: int, time: float) -> Cells:
    """A row for each array of a step."""
    arrays = reader.arrays(key, step)
    places = np.arange(len(arrays), dtype=np.int32)
    return {
        "layer": _words(places, tuple(arrays)),
        "step": np.full(len(arrays), step),
        "time": np.full(len(arrays), time),
        "array": pa.array([array.reshape(-1).astype(np.float64) for array in arrays.values()], _FIELDS["array"]),
        "shape": pa.array([array.shape for array in arrays.values()], _FIELDS["shape"]),
        "dtype": _words(places, [array.dtype.name for array in arrays.values()]),
    }


def _words(places: NDArray[np.int32], words: Sequence[str]) -> Any:
    """For each place, the word there."""
    return pa.DictionaryArray.from_arrays(pa.array(places), pa.array(words, pa.string()))


def _batch(entry: Series, cells: Cells, schema: Any) -> Any:
    """Rows of one series."""
    rows = len(cells["step"])
    same = {"key": entry.key, "kind": entry.kind, "origin": entry.origin}
    cells |= {name: _words(np.zeros(rows, np.int32), [word]) for name, word in same.items()}
    columns = [pa.nulls(rows, kind) if name not in cells else cells[name] for name, kind in _FIELDS.items()]
    return pa.record_batch(columns, schema=schema)
