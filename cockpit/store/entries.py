"""What a log tells of its series and of what happened, one by one."""

from __future__ import annotations

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
