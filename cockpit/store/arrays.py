"""Arrays of any shape as bytes, and back: lossless, every bit as it was, NaN's payloads and the sign of zero included.

Numbers of one size have their first bytes in common, signs and exponents, and nothing else: bytes of one place in the
number are compressed together, and left as they are where that gains nothing.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]

MOST = 10**9
"""Bytes that a cell of the database holds."""
_DTYPES = ("<f4", "<f8")
_SAMPLE = 1 << 16
"""Bytes that tell whether compressing the others is worth it."""
_WORTH = 0.97
_LENGTH = 8
"""Bytes that say how many bytes follow."""


@dataclass(frozen=True)
class Form:
    """What an array is without its numbers.

    Args:
        dtype: ``<f4`` or ``<f8``.
        shape: Its shape.
    """

    dtype: str
    shape: tuple[int, ...]


def form_of(name: str, array: Array) -> Form:
    """What ``array`` is.

    Raises:
        TypeError: If it is no NumPy array of float32 or float64.
    """
    dtype = array.dtype.newbyteorder("<").str if isinstance(array, np.ndarray) else type(array).__name__
    if dtype not in _DTYPES:
        raise TypeError(f"arrays are of NumPy's float32 or float64, {name!r} is {getattr(array, 'dtype', dtype)}")
    return Form(dtype, array.shape)


def encode_forms(forms: Iterable[Form]) -> bytes:
    """Dtypes and shapes, as JSON."""
    return json.dumps([[form.dtype, form.shape] for form in forms]).encode()


def decode_forms(data: bytes) -> list[Form]:
    """The inverse of :func:`encode_forms`."""
    return [Form(str(dtype), tuple(map(int, shape))) for dtype, shape in json.loads(data)]


def encode_arrays(arrays: Mapping[str, Array]) -> bytes:
    """The arrays' numbers, one array after the other.

    Raises:
        TypeError: If one is no NumPy array of float32 or float64.
        ValueError: If it is more than the log can hold.
    """
    payload = b"".join(part for name, array in arrays.items() for part in _encoded(array, form_of(name, array).dtype))
    if len(payload) > MOST:
        raise ValueError(f"arrays of {len(payload):,} bytes, compressed, are more than a log holds: {MOST:,} bytes")
    return payload


def decode_arrays(payload: bytes, forms: Sequence[Form]) -> list[Array]:
    """The inverse of :func:`encode_arrays`, in the machine's byte order."""
    arrays, at = [], 0
    for form in forms:
        dtype, size = np.dtype(form.dtype), math.prod(form.shape)
        planes = []
        for _ in range(dtype.itemsize):
            length, at = int.from_bytes(payload[at : at + _LENGTH], "little"), at + _LENGTH
            data, at = payload[at : at + length], at + length
            planes.append(np.frombuffer(data if length == size else zlib.decompress(data), np.uint8, size))
        numbers = np.stack(planes, axis=-1).view(dtype).reshape(form.shape)
        arrays.append(numbers.astype(dtype.newbyteorder("="), copy=False))
    return arrays


def _encoded(array: Array, dtype: str) -> Iterable[bytes]:
    """For each byte of the numbers that of all of them, after its length: as it is where the length is theirs."""
    numbers = np.ascontiguousarray(array, dtype).reshape(-1)
    for plane in np.ascontiguousarray(numbers.view(np.uint8).reshape(len(numbers), numbers.itemsize).T):
        data = _smaller(plane.tobytes())
        yield len(data).to_bytes(_LENGTH, "little")
        yield data


def _smaller(data: bytes) -> bytes:
    """Compressed, if that is worth it."""
    sample = data[:_SAMPLE]
    if len(zlib.compress(sample, 1)) > _WORTH * len(sample):
        return data
    compressed = zlib.compress(data, 1)
    return compressed if len(compressed) < len(data) else data
