"""The table of runs as plain data: its columns, and one row for each run. All text stays text."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cockpit.dashboard.theme import Json, shorten
from cockpit.store import RunSummary

CONFIG, LATEST = "config", "latest"
NAME, STATE, TAGS, NOTES = "name", "state", "tags", "notes"
NEWEST = "created.desc"  # how rows are sorted until the reader sorts them
USUAL = 4  # columns that a reader gets without choosing
LONGEST = 200  # characters of a value
EXACT = 2**53  # beyond which a browser does not tell whole numbers apart

_TEXT: Json = {"filter": "agTextColumnFilter"}
_NUMBER: Json = {
    "filter": "agNumberColumnFilter",
    "type": "rightAligned",
    "comparator": {"function": "cockpitOrder"},
    "valueFormatter": {"function": "cockpitNumber(params.value)"},
}


class Columns:
    """What the runs offer as columns: each of their hyperparameters, and the last value of each quantity.

    A column is called by where it comes from and its name, ``config:lr``.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}  # a first value of each, as text
        self._varied: dict[str, None] = {}
        self._words: set[str] = set()  # columns whose values are not all numbers

    def learn(self, runs: Iterable[RunSummary]) -> bool:
        """Take in what these runs offer; whether some of it is new."""
        before = len(self._texts)
        for run in runs:
            for column, value in _values(run):
                text = str(value)
                if self._texts.setdefault(column, text) != text:
                    self._varied[column] = None
                if value is not None and not _is_number(value):
                    self._words.add(column)
        return len(self._texts) > before

    def offered(self) -> list[Json]:
        """The reader's choice, in groups."""
        groups = {CONFIG: "Configuration", LATEST: "Last value"}
        return [
            {
                "group": label,
                "items": [
                    {"value": column, "label": _title(column)}
                    for column in self._texts
                    if column.startswith(f"{source}:")
                ],
            }
            for source, label in groups.items()
        ]

    def usual(self) -> list[str]:
        """What is shown until the reader chooses: hyperparameters in which runs differ, then what scripts logged."""
        logged = [column for column in self._texts if column.startswith(f"{LATEST}:") and "/" in column]
        differing = [column for column in self._varied if column.startswith(f"{CONFIG}:")]
        return [*differing[: USUAL - 1], *logged][:USUAL]

    def known(self, columns: object) -> list[str]:
        """Those of the columns that there are, whatever the browser sends."""
        return [name for name in columns if name in self._texts] if isinstance(columns, list) else []

    def definitions(self, chosen: Sequence[str], order: object = None) -> list[Json]:
        """The grid's columns: those that every run has, with the chosen ones among them.

        Args:
            chosen: Columns of runs.
            order: By which field of a row they are sorted, ``"loss.asc"``; what the browser does not know is no order.
        """
        extra = [
            {"field": field(column), "headerName": _title(column), "headerTooltip": column.replace(":", ": ", 1),
             "width": min(220, max(110, 58 + 8 * len(_title(column)))),
             **(_TEXT if column in self._words else _NUMBER)}
            for column in chosen
        ]  # fmt: skip
        by, _, direction = (order if isinstance(order, str) else NEWEST).rpartition(".")
        sort = direction if direction in ("asc", "desc") else None
        return [column | {"sort": sort if column["field"] == by else None} for column in (*_FIRST, *extra, *_LAST)]


_FIRST: list[Json] = [
    {"field": NAME, "headerName": "Run", "cellRenderer": "CockpitRun", "pinned": "left", "width": 165, "minWidth": 110,
     "tooltipField": NAME, **_TEXT},
    {"field": STATE, "headerName": "State", "cellRenderer": "CockpitState", "width": 140, **_TEXT},
    {"field": "created", "headerName": "Started", "width": 150, "filter": "agDateColumnFilter",
     "headerTooltip": "By this browser's clock",
     "filterParams": {"comparator": {"function": "cockpitDay"}},
     "valueFormatter": {"function": "cockpitTime(params.value)"}},
    {"field": "elapsed", "headerName": "Duration", "width": 115,
     **_NUMBER, "valueFormatter": {"function": "cockpitDuration(params.value)"}},
    {"field": "step", "headerName": "Last step", "width": 122, **_NUMBER},
    {"field": "loss", "headerName": "Last loss", "width": 122, **_NUMBER},
]  # fmt: skip
_LAST: list[Json] = [
    {"field": TAGS, "headerName": "Tags", "headerTooltip": "Separated by commas", "editable": True, "width": 150,
     **_TEXT},
    {"field": NOTES, "headerName": "Notes", "editable": True, "width": 240, "flex": 1, "minWidth": 150,
     "tooltipField": NOTES, "cellEditor": "agLargeTextCellEditor", "cellEditorPopup": True,
     "cellEditorParams": {"maxLength": 10_000, "rows": 6, "cols": 48}, **_TEXT},
]  # fmt: skip


def row(run: RunSummary, chosen: Sequence[str]) -> Json:
    """One run's cells, as JSON knows them."""
    values = dict(_values(run)) if chosen else {}
    return {
        NAME: run.name,
        STATE: run.state,
        "reason": run.reason,
        "created": run.created,
        "elapsed": _cell(run.elapsed),
        "step": run.last_step,
        "loss": _cell(run.last_loss),
        TAGS: ", ".join(run.tags),
        NOTES: run.notes,
        **{field(column): _cell(values.get(column)) for column in chosen},
    }


def field(column: str) -> str:
    """The column's name in a row; the grid would take dots and brackets in its own for paths."""
    return "c" + hashlib.sha256(column.encode("utf-8", "replace")).hexdigest()[:16]


def tags_of(text: str) -> tuple[str, ...]:
    """Tags as they are typed, separated by commas; each counts once."""
    return tuple(dict.fromkeys(tag for part in text.split(",") if (tag := part.strip())))


def _values(run: RunSummary) -> Iterator[tuple[str, Any]]:
    yield from ((f"{CONFIG}:{name}", value) for name, value in _flat(run.config))
    yield from ((f"{LATEST}:{key}", value) for key, value in run.latest.items() if key != "loss")


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Hyperparameters, those in groups by the group's name, a dot, and their own."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _title(column: str) -> str:
    return shorten(column.partition(":")[2], 60)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any) -> float | str | None:
    """A number, words, or nothing. JSON has no word for numbers that are not finite, nor a browser for large ones."""
    if isinstance(value, int) and abs(value) > EXACT:
        return shorten(str(value), LONGEST)
    if value is None or (_is_number(value) and math.isfinite(value)):
        return value  # type: ignore[no-any-return]
    if _is_number(value):
        return {"inf": "∞", "-inf": "−∞"}.get(str(value), "NaN")
    return shorten(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), LONGEST)
