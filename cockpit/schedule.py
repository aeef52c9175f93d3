"""When an instrument is read: functions from the step's number to yes or no, with words for the log."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Schedule: TypeAlias = Callable[[int], bool]


@dataclass(frozen=True)
class Auto:
    """As often as the budget allows: which steps these are turns out while training runs."""

    def __str__(self) -> str:
        return "as often as the budget allows"


@dataclass(frozen=True)
class Every:
    """Step 0 and every ``interval``-th after it."""

    interval: int

    def __call__(self, step: int) -> bool:
        """Whether the step is due."""
        return step % self.interval == 0

    def __str__(self) -> str:
        return "every step" if self.interval == 1 else f"every {_ordinal(self.interval)} step"


@dataclass(frozen=True)
class LogSpaced:
    """Steps that come closer together the earlier they are."""

    steps: frozenset[int]
    description: str

    def __call__(self, step: int) -> bool:
        """Whether the step is due."""
        return step in self.steps

    def __str__(self) -> str:
        return self.description


def every(interval: int) -> Every:
    """Step 0 and every ``interval``-th after it.

    Args:
        interval: At least 1.

    Raises:
        ValueError: For an interval that is not a positive whole number.
    """
    if isinstance(interval, bool) or not hasattr(interval, "__index__") or interval < 1:
        raise ValueError(f"the interval must be a whole number of steps, at least 1, got {interval!r}")
    return Every(operator.index(interval))


def log_spaced(last: int, points: int = 100) -> LogSpaced:
    """Steps equally spaced in their logarithm: the first steps of training change most.

    Args:
        last: The last step wanted, at least 1.
        points: How many; fewer come out where they would fall on the same step.

    Raises:
        ValueError: For a last step or a number of points below 1.
    """
    if last < 1 or points < 1:
        raise ValueError(f"log_spaced needs last >= 1 and points >= 1, got {last!r} and {points!r}")
    exponents = (i / max(1, points - 1) for i in range(points))
    steps = frozenset({0, *(round(math.exp(e * math.log(last))) for e in exponents)})
    return LogSpaced(steps, f"{len(steps)} log-spaced steps up to {last}")


def as_schedule(track: int | Literal["auto"] | Schedule) -> Schedule | Auto:
    """What a user may write for ``track=``: ``"auto"``, an interval, or any function from step to bool.

    Raises:
        TypeError: For anything else.
        ValueError: For an interval below 1.
    """
    if isinstance(track, str) and track == "auto":
        return Auto()
    if callable(track):
        return track
    if hasattr(track, "__index__"):
        return every(track)
    raise TypeError(
        'track must be "auto", a number of steps, every(…), log_spaced(…) or a function from step to bool, '
        f"got {track!r}"
    )


def describe_intervals(intervals: Iterable[int]) -> str:
    """How often several things happen, in words: ``every 3rd step``, ``every 4th to 32nd step``."""
    ordered = sorted(intervals)
    shortest, longest = ordered[0], ordered[-1]
    if shortest == longest:
        return str(Every(shortest))
    if shortest == 1:
        return f"every step to every {_ordinal(longest)}"
    return f"every {_ordinal(shortest)} to {_ordinal(longest)} step"


def describe(schedule: Schedule | Auto) -> str:
    """A schedule in words."""
    if isinstance(schedule, (Auto, Every, LogSpaced)):
        return str(schedule)
    name = getattr(schedule, "__name__", type(schedule).__name__)
    return "steps chosen by a function" if name == "<lambda>" else f"steps chosen by {name}"


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
