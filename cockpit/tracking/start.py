"""The parameters that a run began with, kept in its log: a resumed run measures its distance from there.

They are written once, by the log's thread, in pieces of so many numbers of one parameter after the other. Of which
parameters they are stands in a document beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from cockpit.parameters import Displacement, ParameterTable, working
from cockpit.store import Reader
from cockpit.store.arrays import Array, Form, decode_arrays, encode_arrays
from cockpit.tracking.places import OpenedLog, fixed

START = "start"
"""Name of the document, and of the pieces."""
MOST = 1 << 30
"""Bytes that are kept: a log is not to be many times the size of what it tells."""

_PIECE = 1 << 18  # numbers
_DTYPES = {torch.float64: "<f8", torch.complex64: "<f4", torch.complex128: "<f8"}  # others are kept in float32
_UNKNOWN = "the run was resumed, and the parameters it began with are not in its log"


def keep_or_recall(log: OpenedLog, table: ParameterTable, displacement: Displacement) -> None:
    """Keeps the parameters of a run that begins; those of one that goes on become what its distance is measured from.

    Args:
        log: The run's log.
        table: The watched parameters.
        displacement: Measures from where they are now.
    """
    if log.next_step == 0 or (log.job.leads and log.writer.attempt == 1):
        if log.job.leads:  # all processes begin with the same
            _keep(log, table, displacement.start)
        return
    reader = Reader(fixed(log.place), rank=0)
    missing = _recall(reader, table, displacement.start)
    reader.close()
    if missing is not None:
        displacement.start_is_unknown(missing)


def _keep(log: OpenedLog, table: ParameterTable, start: Sequence[Tensor]) -> None:
    size = sum(t.numel() * _reals(t) * int(_dtype(t)[-1]) for t in start)
    names = [[p.name, list(t.shape), _dtype(t)] for p, t in zip(table, start, strict=True)]
    log.writer.document(START, {"parameters": names, "bytes": size, "numbers": _PIECE})
    if size <= MOST:
        # Copied here where they are on a device: its stream may be recorded, and another thread would spoil that.
        log.writer.keep(START, _pieces([t.cpu() for t in start]))


def _pieces(start: Sequence[Tensor]) -> Iterator[bytes]:
    place, flat = -1, torch.empty(0)
    for portions in _portions([t.numel() for t in start], _PIECE):
        arrays: dict[str, Array] = {}
        for index, part in portions:
            if index != place:
                place, flat = index, start[index].reshape(-1)
            numbers = torch.view_as_real(flat[part]) if flat.is_complex() else flat[part]
            arrays[str(index)] = working(numbers).reshape(-1).numpy()
        yield encode_arrays(arrays)


def _recall(reader: Reader, table: ParameterTable, start: Sequence[Tensor]) -> str | None:
    """Puts into ``start`` what was kept; says why that cannot be."""
    kept: Any = reader.document(START)
    if kept is None:
        return _UNKNOWN
    if [[name, shape] for name, shape, _ in kept["parameters"]] != [
        [p.name, list(t.shape)] for p, t in zip(table, start, strict=True)
    ]:
        return "the run was resumed with other parameters than it began with"
    if kept["bytes"] > MOST:
        return f"{_UNKNOWN}: of {kept['bytes'] / 1e9:.1f} GB; up to {MOST / 1e9:.1f} GB are kept"
    sizes = [t.numel() for t in start]
    whole = torch.empty(0)
    for portions, data in zip_longest(_portions(sizes, kept["numbers"]), reader.pieces(START)):
        if data is None or portions is None:
            return f"{_UNKNOWN}: it ended before all were written"
        forms = [_form(start[index], kept["parameters"][index][2], part) for index, part in portions]
        arrays = decode_arrays(data, forms)
        for (index, part), array in zip(portions, arrays, strict=True):
            numbers = torch.from_numpy(array)
            if part.start == 0:
                whole = torch.empty(sizes[index] * _reals(start[index]), dtype=numbers.dtype)
            whole[part.start * _reals(start[index]) : part.stop * _reals(start[index])] = numbers
            if part.stop == sizes[index]:
                _put(whole, start[index])
    return None


def _put(numbers: Tensor, into: Tensor) -> None:
    whole = torch.view_as_complex(numbers.reshape(-1, 2)) if into.is_complex() else numbers
    into.copy_(whole.reshape(into.shape))


def _form(tensor: Tensor, dtype: str, part: slice) -> Form:
    return Form(dtype, ((part.stop - part.start) * _reals(tensor),))


def _dtype(tensor: Tensor) -> str:
    return _DTYPES.get(tensor.dtype, "<f4")


def _reals(tensor: Tensor) -> int:
    return 2 if tensor.is_complex() else 1


def _portions(sizes: Sequence[int], most: int) -> Iterator[list[tuple[int, slice]]]:
    """For each piece, of which tensors it holds which numbers: ``most`` of them, in the last one the rest."""
    portions: list[tuple[int, slice]] = []
    room = most
    for index, size in enumerate(sizes):
        at = 0
        while at < size:
            end = min(size, at + room)
            portions.append((index, slice(at, end)))
            room -= end - at
            at = end
            if room == 0:
                yield portions
                portions, room = [], most
    if portions:
        yield portions
