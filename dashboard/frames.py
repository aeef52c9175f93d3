"""A run's panels at many of its steps, small enough for one file: what drawings have in common is kept once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from cockpit.dashboard.page import Page
from cockpit.dashboard.source import Source
from cockpit.dashboard.status import LOSS
from cockpit.dashboard.theme import Json, number

WORTH = 40  # bytes from which on a part is kept once
FIRST_SHARE = 0.5  # of the bytes, that the last step's panels may take: the others differ little from it
NO_ROOM = "This panel is left out: with it the report would be too large. The dashboard draws it."


class Pool:
    """JSON values, of which equal parts are kept once.

    Attributes:
        entries: JSON texts. ``{"$": n}`` in one of them stands for the entry of this number.
        size: Bytes of all of them.
    """

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.size = 0
        self._numbers: dict[bytes, int] = {}

    def put(self, value: Any) -> Any:
        """``value`` as it is written down: its larger parts give way to their numbers."""
        if isinstance(value, dict):
            return self._kept({name: self.put(part) for name, part in value.items()})
        if isinstance(value, (list, tuple)):
            return self._kept([self.put(part) for part in value])
        return self._kept(value) if isinstance(value, str) and len(value) >= WORTH else value

    def _kept(self, value: Any) -> Any:
        text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
        if len(text) < WORTH:
            return value
        number = self._numbers.setdefault(text, len(self.entries))
        if number == len(self.entries):
            self.entries.append(text)
            self.size += len(text)
        return {"$": number}

    def forget(self, entries: int) -> None:
        """All but so many of the first entries."""
        for text in self.entries[entries:]:
            self.size -= len(text)
            del self._numbers[text]
        del self.entries[entries:]


@dataclass(frozen=True)
class Frames:
    """A run's panels at some of its steps.

    Args:
        names: Of the panels.
        all: In step order: the step, words about it, and in the order of ``names`` each panel's drawing, as they stand
            in the pool.
        pool: What they refer to.
        logged: At how many steps the run has readings.
        left_out: Panels without drawings: they had no room.
    """

    names: tuple[str, ...]
    all: tuple[Json, ...]
    pool: Pool
    logged: int
    left_out: tuple[str, ...]


def frames_of(pages: Sequence[Page], most_steps: int, most_bytes: int) -> Frames:
    """The panels of a run's views at its last step and at as many others, evenly over the run, as there is room for.

    Args:
        pages: The views, all of one run.
        most_steps: How many steps are drawn at most; one at least is.
        most_bytes: How large the drawings may be together, as JSON.
    """
    names = tuple(dict.fromkeys(name for page in pages for name in page.arrangement.names))
    page, pool = pages[0], Pool()
    first, left_out = _first_frame(page, names, pool, int(FIRST_SHARE * most_bytes))
    frames = {first["step"]: first}
    shown = [name for name in names if name not in left_out]
    spent = len(orjson.dumps(first))
    steps = steps_of(page.source)
    for place in coarse_to_fine(len(steps)):
        if steps[place] in frames:
            continue
        if len(frames) >= most_steps:
            break
        known = len(pool.entries)
        at = _at(page, steps[place])
        drawn = {name: pool.put(_content(at, name)) for name in shown}
        frame = _frame(at, [drawn.get(name, last) for name, last in zip(names, first["panels"], strict=True)])
        spent += len(orjson.dumps(frame))
        if spent + pool.size > most_bytes:
            pool.forget(known)
            break
        frames[steps[place]] = frame
    logged = max((entry.points for entry in page.source.series.values()), default=0)
    return Frames(names, tuple(frames[step] for step in sorted(frames)), pool, logged, tuple(left_out))


def _first_frame(page: Page, names: Sequence[str], pool: Pool, most: int) -> tuple[Json, list[str]]:
    """The panels as they are at the end, and which of them have no room among so many bytes."""
    at, panels, left_out = _at(page, None), [], []
    for name in names:
        known = len(pool.entries)
        panels.append(pool.put(_content(at, name)))
        if pool.size > most:
            pool.forget(known)
            left_out.append(name)
            panels[-1] = pool.put({"figure": {"data": [], "layout": {}}, "empty": NO_ROOM})
    return _frame(at, panels), left_out


def _at(page: Page, step: int | None) -> Page:
    return replace(page, choice=replace(page.choice, step=step))


def _content(page: Page, name: str) -> Json:
    """A panel and the words around it."""
    drawing = page.drawing(name)
    said = {"words": drawing.words, "empty": drawing.empty, "notice": page.notice(name)}
    return {"figure": drawing.figure, "height": drawing.height, **said}


def _frame(page: Page, panels: list[Any]) -> Json:
    loss = page.source.scalar_at(LOSS, page.step)
    step = page.span[1] if page.step is None else page.step
    return {"step": step, "label": f"{step:,}", "loss": "–" if loss is None else number(loss), "panels": panels}


def steps_of(source: Source) -> list[int]:
    """Steps with readings, increasing: of very many a selection."""
    scalars = [entry for entry in source.series.values() if entry.kind == "scalar"]
    if not scalars:
        return []
    column = source.scalars(max(scalars, key=lambda entry: entry.points).key)
    steps: list[int] = [] if column is None else column.steps.tolist()
    return steps


def coarse_to_fine(count: int) -> Iterator[int]:
    """All of so many places: both ends, then again and again the middles of what is between.

    Example:
        >>> list(coarse_to_fine(6))
        [0, 5, 2, 1, 3, 4]
    """
    yield from range(0, count, max(1, count - 1))
    gaps = deque([(0, count - 1)])
    while gaps:
        low, high = gaps.popleft()
        middle = (low + high) // 2
        if low < middle:
            yield middle
            gaps += [(low, middle), (middle, high)]
