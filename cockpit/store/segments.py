"""The files of a log on a network file system, which are only ever appended to.

``rank0.2-3.seg`` is the third segment that the second writer of the run has begun. Each begins with where the one
before it ends: what stands behind that was cut short, or written by somebody who held the run no longer. ``rank0.db``,
where there is one, holds the attempts that are not found as segments.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cockpit.store.records import Record, decode, encode
from cockpit.store.schema import SCHEMA_VERSION

_NAME = re.compile(r"(rank\d+)\.([1-9]\d*)-([1-9]\d*)\.seg")
_PROBE = 1 << 16  # bytes that hold a segment's first record


@dataclass(frozen=True, order=True)
class Place:
    """A place in a log.

    Args:
        attempt: The writer.
        segment: Its segment.
        at: Byte of that.
    """

    attempt: int
    segment: int
    at: int = 0

    def segments_after(self) -> tuple[Place, Place]:
        """The next writer's first segment, and the next of the same writer."""
        return Place(self.attempt + 1, 1), Place(self.attempt, self.segment + 1)


def segment_path(log: Path, place: Place) -> Path:
    """The file that a place is in.

    Args:
        log: What the log is called as one file: ``rank0.db``.
        place: The place.
    """
    return log.with_name(f"{log.stem}.{place.attempt}-{place.segment}.seg")


def has_segments(log: Path, names: Iterable[str]) -> bool:
    """Whether there are some of a log's among the files of its directory."""
    return any((found := _NAME.fullmatch(name)) and found[1] == log.stem for name in names)


def segments_of(log: Path) -> Iterator[tuple[Place, Path]]:
    """All segments of a log, in order."""
    try:
        names = os.listdir(log.parent)
    except OSError:
        return
    matched = [found for name in names if (found := _NAME.fullmatch(name)) and found[1] == log.stem]
    for found in sorted(matched, key=lambda found: (int(found[2]), int(found[3]))):
        yield Place(int(found[2]), int(found[3])), log.with_name(found[0])


def first_record(before: Place) -> bytes:
    """What a segment begins with.

    Args:
        before: Where those before it end.
    """
    return encode({"kind": "segment", "version": SCHEMA_VERSION, "before": list(vars(before).values())})


def begins_after(log: Path, place: Place) -> tuple[Place, int] | None:
    """Where the segments end that are before one, and the version of its writer; ``None`` if it is not there yet.

    That of a writer's first is there only with the claim that it makes.

    Raises:
        OSError: If it cannot be read.
    """
    try:
        with segment_path(log, place).open("rb") as file:
            records, _ = decode(file.read(-1 if place.segment == 1 else _PROBE))
    except FileNotFoundError:
        return None
    begins = ["segment", "claim"] if place.segment == 1 else ["segment"]
    if [record["kind"] for record in records[: len(begins)]] != begins:
        return None
    return Place(*records[0]["before"]), int(records[0]["version"])


def read(log: Path, place: Place, end: int | None) -> tuple[list[Record], Place]:
    """The records of a segment from a place on, and where they end.

    Args:
        log: See :func:`segment_path`.
        place: Where to begin.
        end: Byte up to which the segment counts; ``None`` while nobody has said.

    Raises:
        Damaged: If whole records follow one that is not, or it ends before it should.
        OSError: If it cannot be read.
    """
    with segment_path(log, place).open("rb") as file:
        file.seek(place.at)
        data = file.read() if end is None else file.read(end - place.at)
    records, length = decode(data)
    return records, Place(place.attempt, place.segment, place.at + length)


def run_row(row: Any) -> dict[str, Any]:
    """A run's row without its number, for a record."""
    return {name: value for name, value in row._mapping.items() if name != "id"}
