"""Vectors and histograms as bytes, and back. Everything is little-endian, whatever machine wrote it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cockpit.reading import Histogram, Histogram2d, Value

Edges: TypeAlias = tuple[NDArray[np.float64], ...]

_FLOAT = np.dtype("<f8")


def encode_floats(values: Sequence[Value]) -> bytes | None:
    """One float64 per entry, then, where any is ``None``, a bit mask of those. All ``None``: no bytes at all.

    Raises:
        TypeError: If an entry is no number.
    """
    missing = [value is None for value in values]
    if all(missing):
        return None
    numbers = np.array(values, _FLOAT)  # None becomes NaN
    if numbers.ndim != 1:
        raise TypeError(f"each layer needs one number, got arrays of shape {numbers.shape[1:]}")
    return numbers.tobytes() + (np.packbits(missing).tobytes() if any(missing) else b"")


def decode_floats(payload: bytes | None, length: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values and missing mask, both ``[length]``; missing values are NaN."""
    if payload is None:
        return np.full(length, np.nan), np.ones(length, bool)
    values = np.frombuffer(payload, _FLOAT, length).astype(np.float64)
    return values, _decode_mask(payload[length * _FLOAT.itemsize :], length)


@dataclass(frozen=True)
class Stack:
    """Histograms, one for each layer; those with fewer bins than others end in empty bins of no width.

    Args:
        counts: Shape ``[L, bins]``, or ``[L, x bins, y bins]`` of pairs; 0 where missing.
        missing: Shape ``[L]``.
        edges: For each axis ``[bins + 1]``, where all layers share them on every axis; else ``[L, bins + 1]``, with NaN
            for the missing ones.
    """

    counts: NDArray[np.int64]
    missing: NDArray[np.bool_]
    edges: Edges

    @property
    def axes(self) -> int:
        """1, or 2 of pairs."""
        return len(self.edges)


def stack(values: Sequence[Value]) -> Stack:
    """Histograms side by side, at least one of them not ``None``.

    Raises:
        TypeError: If a number stands among them, histograms of pairs beside others, or counts are no integers.
    """
    for value in values:
        if not (value is None or isinstance(value, (Histogram, Histogram2d))):
            raise TypeError(f"a number, {value!r}, stands among histograms")
    histograms = [(value.counts, _edges_of(value)) for value in values if isinstance(value, (Histogram, Histogram2d))]
    missing = np.array([value is None for value in values])
    if len({counts.ndim for counts, _ in histograms}) > 1:
        raise TypeError("histograms of numbers stand among histograms of pairs")
    bins = np.max([counts.shape for counts, _ in histograms], axis=0)
    counts = np.zeros((len(values), *bins), np.int64)
    edges = tuple(np.full((len(values), size + 1), np.nan) for size in bins)
    for row, (own, boundaries) in zip(np.flatnonzero(~missing).tolist(), histograms, strict=True):
        counts[row][tuple(map(slice, own.shape))] = own.astype(np.int64, casting="same_kind")
        for axis, boundary in zip(edges, boundaries, strict=True):
            axis[row, : len(boundary)] = boundary
            axis[row, len(boundary) :] = boundary[-1]
    shared = all(bool((axis[~missing] == axis[~missing][0]).all()) for axis in edges)
    return Stack(counts, missing, tuple(axis[~missing][0] for axis in edges) if shared else edges)


def _edges_of(histogram: Histogram | Histogram2d) -> Edges:
    return (histogram.edges,) if isinstance(histogram, Histogram) else (histogram.x_edges, histogram.y_edges)


def encode_counts(counts: NDArray[np.int64], missing: NDArray[np.bool_]) -> bytes:
    """Counts ``[rows, *bins]`` in the smallest integer type that holds them, and a mask of missing rows, compressed."""
    dtype = np.result_type(np.min_scalar_type(counts.min(initial=0)), np.min_scalar_type(counts.max(initial=0)))
    mask = np.packbits(missing).tobytes() if missing.any() else b""
    data = counts.astype(dtype.newbyteorder("<")).tobytes() + mask
    return dtype.str[1:].encode() + zlib.compress(data, 1)


def plain_counts(payload: bytes) -> bytes:
    """Counts without their compression, for many of them to be compressed together; decoded as the others are."""
    return b"<" + payload[:2] + zlib.decompress(payload[2:])


def decode_counts(payload: bytes | None, rows: int, bins: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Counts ``[rows, *bins]`` and missing mask ``[rows]``; missing rows hold zeros."""
    if payload is None:
        return np.zeros((rows, *bins), np.int64), np.ones(rows, bool)
    if not payload.startswith(b"<"):
        payload = plain_counts(payload)
    dtype, data = np.dtype(payload[:3].decode()), payload[3:]
    size = rows * math.prod(bins)
    counts = np.frombuffer(data, dtype, size).astype(np.int64).reshape(rows, *bins)
    return counts, _decode_mask(data[size * dtype.itemsize :], rows)


def _decode_mask(data: bytes, length: int) -> NDArray[np.bool_]:
    if not data:
        return np.zeros(length, bool)
    return np.unpackbits(np.frombuffer(data, np.uint8), count=length).astype(bool)


def encode_edges(edges: Edges) -> bytes:
    """Bin boundaries, each ``[bins + 1]`` or each ``[layers, bins + 1]``. Of pairs: first how many x bins."""
    lead = [np.array([axis.shape[-1] - 1], _FLOAT) for axis in edges[:-1]]
    return b"".join(part.astype(_FLOAT).tobytes() for part in (*lead, *edges))


def decode_edges(data: bytes, layers: int, bins: int, axes: int) -> Edges:
    """Bin boundaries as they were encoded; ``bins`` are the last axis'."""
    numbers: NDArray[np.float64] = np.frombuffer(data, _FLOAT).astype(np.float64)
    sizes = [*numbers[: axes - 1].astype(np.int64).tolist(), bins]
    numbers = numbers[axes - 1 :]
    shared = len(numbers) == sum(sizes) + axes
    edges = np.split(numbers, np.cumsum([(1 if shared else layers) * (size + 1) for size in sizes])[:-1])
    return tuple(axis if shared else axis.reshape(layers, -1) for axis in edges)
