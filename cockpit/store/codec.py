"""Vectors and histograms as bytes, and back. Everything is little-endian, whatever machine wrote it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FLOAT = np.dtype("<f8")


def encode_floats(values: Sequence[float | None]) -> bytes | None:
    """One float64 per entry, then, where any is ``None``, a bit mask of those. All ``None``: no bytes at all."""
    missing = np.fromiter((value is None for value in values), bool, len(values))
    if missing.all():
        return None
    numbers = np.array([np.nan if value is None else value for value in values], _FLOAT)
    mask = np.packbits(missing).tobytes() if missing.any() else b""
    return numbers.tobytes() + mask


def decode_floats(payload: bytes | None, length: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values and missing mask, both ``[length]``; missing values are NaN."""
    if payload is None:
        return np.full(length, np.nan), np.ones(length, bool)
    values = np.frombuffer(payload, _FLOAT, length).astype(np.float64)
    return values, _decode_mask(payload[length * _FLOAT.itemsize :], length)


def encode_counts(counts: NDArray[np.int64], missing: NDArray[np.bool_]) -> bytes | None:
    """Counts ``[rows, bins]`` in the smallest integer type that holds them, compressed, with the mask of missing rows.

    Raises:
        TypeError: If the counts are not integers.
    """
    if missing.all():
        return None
    counts = counts.astype(np.int64, casting="same_kind")
    dtype = np.result_type(np.min_scalar_type(counts.min(initial=0)), np.min_scalar_type(counts.max(initial=0)))
    mask = np.packbits(missing).tobytes() if missing.any() else b""
    return dtype.str[1:].encode() + zlib.compress(counts.astype(dtype.newbyteorder("<")).tobytes() + mask, 1)


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
    return np.ascontiguousarray(edges, _FLOAT).tobytes()


def decode_edges(data: bytes) -> NDArray[np.float64]:
    """Bin boundaries as one flat array; the caller knows how many rows there are."""
    return np.frombuffer(data, _FLOAT).astype(np.float64)
