"""Many points of a series in a few bytes each, and back, bit for bit.

Integers (steps, numbers, flags, layouts, and times in microseconds) are kept as what their differences exceed the least
of them by: of an even stride nothing is left. Values are kept in four bytes where that loses nothing. Bytes of one
place in the number stand together, since they resemble each other, and all is compressed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cockpit.store.codec import plain_counts
from cockpit.store.columns import thin
from cockpit.store.points import Points
from cockpit.store.schema import FINITE, MINUS_INF, PLUS_INF

LONGEST = 1024
"""Points of a chunk at most."""
VECTORS = 256
"""Histograms or vectors of a chunk at most: one of them is read by opening all."""
SKETCHED = 10
"""Points of a sketch at most."""

_WIDTHS = (0, 1, 2, 4, 8)
_INTEGERS = 5  # steps, ids, times, flags, layouts
_BASES = (2 * _INTEGERS + 1) * 8  # bytes: of each the first and the least difference, and the first value
_PREFIX = _INTEGERS + 2  # bytes: widths of the integers and values, and whether times are microseconds
_MICRO = 1e6
_EXACT = 2.0**53
_SKETCH = np.dtype([("steps", "<i8"), ("times", "<f8"), ("values", "<f8"), ("flags", "i1")])
_NONE = 2**32 - 1  # length of a payload that is not there


def encode_points(points: Points) -> bytes:
    """At least one point, in the order in which they come."""
    micro = _microseconds(points.times)
    times = points.times.view(np.int64) if micro is None else micro
    bases: list[int] = []
    planes, widths = [], []
    for numbers in (points.steps, points.ids, times, points.flags, points.layouts):
        bits = numbers.astype(np.int64).view(np.uint64)
        differences = np.diff(bits)  # modulo 2**64, here and when they are added up again
        least = np.uint64(differences[differences.view(np.int64).argmin()]) if len(differences) else np.uint64(0)
        differences -= least
        widths.append(next(width for width in _WIDTHS if int(differences.max(initial=0)) < 256**width))
        planes.append(_planes(differences, widths[-1]))
        bases += [int(bits[0]), int(least)]
    values = np.where(points.flags == FINITE, points.values, 0.0)
    width = _value_width(values)
    bases.append(int(values.view(np.uint64)[0]))
    if width:
        planes.append(_planes(values.astype(f"<f{width}").view(f"<u{width}"), width))
    data = np.array(bases, "<u8").tobytes() + b"".join(planes)
    return bytes([*widths, width, micro is not None]) + zlib.compress(data)


def _microseconds(times: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Whole microseconds, where that is what the times are."""
    with np.errstate(all="ignore"):
        micro = np.rint(times * _MICRO)
        if not (np.abs(micro) < _EXACT).all():
            return None
        whole = micro.astype(np.int64)  # which knows no negative zero
        same = (whole / _MICRO).view(np.int64) == times.view(np.int64)
    return whole if same.all() else None


def _value_width(values: NDArray[np.float64]) -> int:
    """Bytes that a value needs: none where all are the same."""
    bits = values.view(np.int64)
    if (bits == bits[0]).all():
        return 0
    with np.errstate(over="ignore"):
        return 4 if (values.astype(np.float32).astype(np.float64).view(np.int64) == bits).all() else 8


def _planes(numbers: NDArray[np.generic], width: int) -> bytes:
    """The lowest bytes of all numbers, then the second lowest, and so on; no more than ``width`` of them."""
    little = np.ascontiguousarray(numbers, f"<u{numbers.itemsize}").view(np.uint8).reshape(-1, numbers.itemsize)
    return little[:, :width].T.tobytes()


def decode_points(chunks: Sequence[tuple[int, int, bytes]]) -> Points:
    """Points of chunks, one chunk after the other.

    Args:
        chunks: Number, how many points, and data of each, at least one.
    """
    alike: dict[tuple[int, bytes], list[int]] = {}
    for at, (_, length, data) in enumerate(chunks):
        if not 0 < length <= LONGEST:
            raise ValueError(f"a chunk of {length} points")
        alike.setdefault((length, data[:_PREFIX]), []).append(at)
    places = np.cumsum([0, *(length for _, length, _ in chunks)])
    total = int(places[-1])
    found = [np.empty(total, np.int64) for _ in range(_INTEGERS)]
    times, values = np.empty(total), np.empty(total)
    for (length, prefix), members in alike.items():
        integers, some = _decoded(length, prefix, [chunks[at][2] for at in members])
        stamps = integers[2] / _MICRO if prefix[-1] else integers[2].view(np.float64)
        for one, into in zip([*integers, stamps, some], [*found, times, values], strict=True):
            if len(members) == len(chunks):
                into[:] = one.ravel()
            else:
                for row, at in zip(one, members, strict=True):
                    into[places[at] : places[at + 1]] = row
    steps, ids, _, flags, layouts = found
    kinds = flags.astype(np.int8)
    if kinds.any():
        values[kinds != FINITE] = np.nan
        values[kinds == PLUS_INF] = np.inf
        values[kinds == MINUS_INF] = -np.inf
    numbers = np.repeat([number for number, _, _ in chunks], np.diff(places))
    return Points(ids, steps, times, values, kinds, layouts, numbers)


def _decoded(length: int, prefix: bytes, data: Sequence[bytes]) -> tuple[list[NDArray[np.int64]], NDArray[np.float64]]:
    """Integers and values of chunks that are alike: each of shape ``[chunks, length]``."""
    raw = b"".join([zlib.decompress(one[_PREFIX:]) for one in data])
    table = np.frombuffer(raw, np.uint8).reshape(len(data), -1)
    bases = np.ascontiguousarray(table[:, :_BASES]).view("<u8").astype(np.uint64)
    integers, at = [], _BASES
    for place, width in enumerate(prefix[:_INTEGERS]):
        first, least = bases[:, 2 * place, None], bases[:, 2 * place + 1, None]
        numbers = first + least * np.arange(length, dtype=np.uint64)
        if width:
            end = at + width * (length - 1)
            numbers[:, 1:] += np.cumsum(_from_planes(table[:, at:end], width), axis=1, dtype=np.uint64)
            at = end
        integers.append(numbers.view(np.int64))
    width = prefix[_INTEGERS]
    if not width:
        return integers, np.repeat(bases[:, -1].view(np.float64), length).reshape(len(data), length)
    values = _from_planes(table[:, at : at + width * length], width)
    return integers, values.view(f"<f{width}").astype(np.float64)


def _from_planes(table: NDArray[np.uint8], width: int) -> NDArray[np.generic]:
    """Unsigned numbers of ``width`` bytes. Shape ``[chunks, n]``."""
    planes = table.reshape(len(table), width, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(planes).view(f"<u{width}")[..., 0]


def encode_sketch(points: Points) -> bytes:
    """The points that a thinned curve keeps of these: first and last, extremes and gaps of each stretch."""
    return _table(points[thin(points.values, points.flags, SKETCHED)])


def _table(points: Points) -> bytes:
    table = np.empty(len(points), _SKETCH)
    for name in _SKETCH.fields or ():
        table[name] = getattr(points, name)
    return table.tobytes()


def decode_sketches(sketches: Sequence[bytes]) -> Points:
    """The points of sketches, one after the other; their numbers are not kept."""
    table = np.frombuffer(b"".join(sketches), _SKETCH)
    steps, times, values = (table[name].astype(f"={_SKETCH[name].kind}8") for name in ("steps", "times", "values"))
    nothing = np.zeros(len(table), np.int64)
    return Points(nothing, steps, times, values, table["flags"].astype(np.int8), nothing, nothing)


def pack(payloads: Sequence[bytes | None], *, counts: bool) -> bytes:
    """Payloads of many points: those of one length stand byte by byte beside each other.

    Args:
        payloads: As the codec made them; ``None`` where a point has none.
        counts: Whether they are those of histograms, which are compressed one by one.
    """
    whole = [plain_counts(data) if counts and data is not None else data for data in payloads]
    lengths = np.array([_NONE if data is None else len(data) for data in whole], "<u4")
    parts = [lengths.tobytes()]
    for length in np.unique(lengths[lengths != _NONE]).tolist():
        alike = b"".join(data for data in whole if data is not None and len(data) == length)
        parts.append(np.frombuffer(alike, np.uint8).reshape(-1, length).T.tobytes() if length else b"")
    return zlib.compress(b"".join(parts), 1)


def unpack(data: bytes, points: int) -> list[bytes | None]:
    """The payloads of ``points`` points, one for each; the codec reads them as it reads those that it made."""
    raw = zlib.decompress(data)
    lengths = np.frombuffer(raw, "<u4", points)
    payloads: list[bytes | None] = [None] * points
    at = lengths.nbytes
    for length in np.unique(lengths[lengths != _NONE]).tolist():
        places = np.flatnonzero(lengths == length).tolist()
        end = at + length * len(places)
        table = np.frombuffer(raw[at:end], np.uint8).reshape(length, len(places)).T
        for place, row in zip(places, np.ascontiguousarray(table), strict=True):
            payloads[place] = row.tobytes()
        at = end
    return payloads
