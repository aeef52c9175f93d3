"""Records of a log that is only ever appended to: framed and checksummed, so that one which was cut short is told.

A record is a length and a checksum, four bytes each, and so many bytes: compressed JSON after its own length, then what
JSON cannot hold, which it names by place and length.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

from cockpit.store.attempts import Attempt
from cockpit.store.batch import Batch, SeriesRow

Record: TypeAlias = "dict[str, Any]"

_FRAME, _LENGTH = struct.Struct("<II"), struct.Struct("<I")
_ROWS = ("series", "layouts", "points", "payloads", "events", "documents", "pieces")  # tuples, which JSON has not
_BYTES = "bytes"  # the only mapping in what is encoded that has this key


class Damaged(Exception):
    """A record that cannot be the last one is not what was written."""


def encode(record: Mapping[str, Any]) -> bytes:
    """Numbers, text, bytes, sequences, and mappings whose keys are text.

    Raises:
        TypeError: For anything else.
        struct.error: For a record of 4 GiB or more.
    """
    blobs: list[bytes] = []
    at = 0

    def apart(value: object) -> dict[str, list[int]]:
        nonlocal at
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise TypeError(f"a log holds numbers, text and bytes, not {type(value).__name__}")
        blobs.append(bytes(value))
        at += len(blobs[-1])
        return {_BYTES: [at - len(blobs[-1]), len(blobs[-1])]}

    text = zlib.compress(json.dumps(record, default=apart, separators=(",", ":")).encode(), 1)
    body = b"".join([_LENGTH.pack(len(text)), text, *blobs])
    return _FRAME.pack(len(body), _checksum(body)) + body


def decode(data: bytes) -> tuple[list[Record], int]:
    """All records up to the first that is not whole, and where that begins.

    Raises:
        Damaged: If it cannot be the last one, which may have been cut short: whole ones follow.
    """
    records: list[Record] = []
    at = 0
    while (end := _end(data, at)) is not None:
        records.append(_decoded(memoryview(data)[at + _FRAME.size : end]))
        at = end
    if len(data) - at >= _FRAME.size:
        beyond = at + _FRAME.size + _FRAME.unpack_from(data, at)[0]
        if beyond < len(data) and _end(data, beyond) is not None:
            raise Damaged(f"the record at byte {at} is not what was written")
    return records, at


def _end(data: bytes, at: int) -> int | None:
    """Where the record ends that begins there; ``None`` if it is not whole."""
    if len(data) - at < _FRAME.size:
        return None
    length, checksum = _FRAME.unpack_from(data, at)
    end = at + _FRAME.size + int(length)
    whole = end <= len(data) and _checksum(memoryview(data)[at + _FRAME.size : end]) == checksum
    return end if whole else None


def _checksum(body: bytes | memoryview) -> int:
    """Of the length, too: bytes that are all zero, as file systems leave them behind, are no record."""
    return zlib.crc32(body, zlib.crc32(_LENGTH.pack(len(body))))


def _decoded(body: memoryview) -> Record:
    (length,) = _LENGTH.unpack_from(body)
    blobs = body[_LENGTH.size + length :]

    def together(value: dict[str, Any]) -> Any:
        if _BYTES not in value:
            return value
        at, size = value[_BYTES]
        return bytes(blobs[at : at + size])

    text = zlib.decompress(body[_LENGTH.size : _LENGTH.size + length])
    record: Record = json.loads(text, object_hook=together)
    return record


def from_batch(batch: Batch) -> Record:
    """A batch as what :func:`encode` knows."""
    record = dict(vars(batch))
    record["series"] = list(batch.series.values())
    record["documents"] = list(batch.documents.values())
    record["long"] = [[list(vars(row).values()), count] for row, count in batch.long]
    record["attempt"] = None if batch.attempt is None else list(vars(batch.attempt).values())
    return record


def to_batch(record: Record) -> Batch:
    """The inverse of :func:`from_batch`."""
    fields = {**record, **{name: list(map(tuple, record[name])) for name in _ROWS}}
    fields["series"] = {row[0]: row for row in fields["series"]}
    fields["documents"] = {row[0]: row for row in fields["documents"]}
    fields["long"] = [(SeriesRow(*row), count) for row, count in record["long"]]
    fields["attempt"] = None if record["attempt"] is None else Attempt(*record["attempt"])
    return Batch(**fields)
