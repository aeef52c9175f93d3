"""Vectors and histograms as bytes, and back. Everything is little-endian, whatever machine wrote it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cockpit.reading import Histogram, Value

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


def stack(values: Sequence[Value]) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Histograms as counts ``[L, bins]``, missing ``[L]`` and edges, at least one of them not ``None``.

    The edges are ``[bins + 1]`` where all layers share them, else ``[L, bins + 1]`` with NaN for the missing ones.
    Layers with fewer bins than others end in empty bins of no width.

    Raises:
        TypeError: If a number stands among them, or counts are not integers.
    """
    histograms = []
    for value in values:
        if not (value is None or isinstance(value, Histogram)):
            raise TypeError(f"a number, {value!r}, stands among histograms")
        histograms.append(value)
    defined = [histogram for histogram in histograms if histogram is not None]
    missing = np.array([histogram is None for histogram in histograms])
    bins = max(len(histogram.counts) for histogram in defined)
    counts = np.zeros((len(values), bins), np.int64)
    edges = np.full((len(values), bins + 1), np.nan)
    for row, histogram in enumerate(histograms):
        if histogram is not None:
            own = len(histogram.counts)
            counts[row, :own] = histogram.counts.astype(np.int64, casting="same_kind")
            edges[row, : own + 1] = histogram.edges
            edges[row, own + 1 :] = histogram.edges[-1]
    first: NDArray[np.float64] = edges[~missing][0]
    return counts, missing, first if bool((edges[~missing] == first).all()) else edges


def encode_counts(counts: NDArray[np.int64], missing: NDArray[np.bool_]) -> bytes:
    """Counts ``[rows, bins]`` in the smallest integer type that holds them, and a mask of missing rows, compressed."""
    dtype = np.result_type(np.min_scalar_type(counts.min(initial=0)), np.min_scalar_type(counts.max(initial=0)))
    mask = np.packbits(missing).tobytes() if missing.any() else b""
    data = counts.astype(dtype.newbyteorder("<")).tobytes() + mask
    return dtype.str[1:].encode() + zlib.compress(data, 1)


def decode_counts(payload: bytes | None, rows: int, bins: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Counts ``[rows, bins]`` and missing mask ``[rows]``; missing rows hold zeros."""
    if payload is None:
        return np.zeros((rows, bins), np.int64), np.ones(rows, bool)
    dtype = np.dtype("<" + payload[:2].decode())
    data = zlib.decompress(payload[2:])
    counts = np.frombuffer(data, dtype, rows * bins).astype(np.int64).reshape(rows, bins)
    return counts, _decode_mask(data[rows * bins * dtype.itemsize :], rows)


def _decode_mask(data: bytes, length: int) -> NDArray[np.bool_]:
    if not data:
        return np.zeros(length, bool)
    return np.unpackbits(np.frombuffer(data, np.uint8), count=length).astype(bool)


def encode_edges(edges: NDArray[np.float64]) -> bytes:
    """Bin boundaries, any shape."""
    return edges.astype(_FLOAT).tobytes()


def decode_edges(data: bytes, layers: int, bins: int) -> NDArray[np.float64]:
    """Bin boundaries, ``[bins + 1]`` or ``[layers, bins + 1]``, whichever was encoded."""
    edges: NDArray[np.float64] = np.frombuffer(data, _FLOAT).astype(np.float64)
    return edges if len(edges) == bins + 1 else edges.reshape(layers, bins + 1)
