"""Rows on their way into the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cockpit.store.attempts import Attempt
from cockpit.store.schema import MISSING, Origin

Row: TypeAlias = tuple[Any, ...]


@dataclass
class SeriesRow:
    """What the log knows of one series; the attributes are the table's columns, in order."""

    id: int
    key: str
    origin: Origin
    layered: bool
    histogram: int | None  # axes of its histograms, 0 for numbers, ARRAYS for arrays
    points: int = 0
    first_step: int = 0
    last_step: int = 0
    last_value: float | None = None
    last_flag: int = MISSING
    revision: int = 0
    tail: int = 0

    @property
    def vectors(self) -> bool:
        """Whether its points have payloads."""
        return self.layered or bool(self.histogram)


@dataclass
class Batch:
    """Rows for one transaction. They carry their numbers, so writing them again after a failure changes nothing."""

    series: dict[int, Row] = field(default_factory=dict)
    layouts: list[Row] = field(default_factory=list)
    points: list[Row] = field(default_factory=list)
    payloads: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    documents: dict[str, Row] = field(default_factory=dict)
    pieces: list[Row] = field(default_factory=list)
    long: list[tuple[SeriesRow, int]] = field(default_factory=list)  # series, and how many of its rows become chunks
    attempt: Attempt | None = None  # one that begins earlier than was known
    cursor: int = 0
    last_step: int | None = None
    elapsed: float = 0.0
