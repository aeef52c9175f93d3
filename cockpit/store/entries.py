"""What a log tells of its series and of what happened, one by one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from cockpit.store.schema import Kind, Origin


@dataclass(frozen=True)
class Series:
    """What can be read under a key.

    Args:
        key: Log key.
        kind: ``scalar``, ``histogram`` or ``histogram2d``; ``layers``, ``layer_histograms`` or ``layer_histograms2d``;
            ``arrays``.
        origin: ``instrument``, or ``user`` for metrics that the training script logs.
        points: How often it was logged.
        first_step: Lowest step.
        last_step: Highest step.
        defined: Whether any of its points has a value; in a kind that is ``scalar`` or ``layers`` until one has.
    """

    key: str
    kind: Kind
    origin: Origin
    points: int
    first_step: int
    last_step: int
    defined: bool = True


@dataclass(frozen=True)
class Event:
    """Something that happened during a run.

    Args:
        id: Cursor at which it was committed.
        step: When; ``None`` if at no step.
        time: Seconds since the run began.
        kind: ``warning``, ``error``, ``info``, ``learning_rate`` or ``evaluation``.
        text: What to tell the user.
        subject: Panel or instrument it is about; empty for the run.
        rank: The process that said so.
    """

    id: int
    step: int | None
    time: float
    kind: str
    text: str
    subject: str
    rank: int = 0


def no_such(key: str, kind: str | None, there: Sequence[Series]) -> str:
    """Why there is no series of a key and kind among those that are there, in words."""
    kinds = [series.kind for series in there if series.key == key]
    if kinds:
        return f"{key!r} is logged as {', '.join(kinds)}, not as {kind}"
    keys = sorted({series.key for series in there})
    near = difflib.get_close_matches(key, keys, 1)
    hint = f", did you mean {near[0]!r}?" if near else "."
    return f"nothing is logged as {key!r}{hint} There are: {', '.join(keys) or 'no series yet'}"
