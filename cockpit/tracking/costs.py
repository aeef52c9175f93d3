"""What the parts of a tracked step cost, learned while training runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import TypeAlias

from cockpit.tracking.yardstick import Yardstick

Part: TypeAlias = Hashable
"""Something that a tracked step does once, however many instruments need it: a probe, an instrument's arithmetic."""


@dataclass(frozen=True)
class Later:
    """A part that is done for windows that began with an earlier step alone, which may be less.

    Args:
        part: What is done in full where a window begins.
    """

    part: Part


STEP = "a tracked step"
INDIVIDUAL = "individual gradients"
MOVEMENT = "the parameters around the step"

_FRAME = frozenset({STEP, INDIVIDUAL})
"""Parts that are spread over the whole step. They cost what is left once the parts with a clock are taken away."""

_MEMORY = 15  # measurements of a part
_ENOUGH = 3
_BELIEVED = (0.5, 2.0)  # of the estimate
_DOUBTFUL = 0.5
MOST_BELIEVED = 20.0
"""Plain steps: what a first run says it costs beyond that is taken for something that happens once."""

LOG_BEGINS = 0.01
"""Seconds that the log's thread works once, on its first write, which may come after hundreds of short steps: it is
charged before it is measured, and only what goes beyond it belongs to the readings."""


@dataclass
class _Measured:
    """Measurements of one part, in plain steps. The first is no measure where there are others."""

    first: float | None = None
    later: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))

    def add(self, value: float) -> bool:
        """Takes a measurement; whether it is the first."""
        if self.first is None:
            self.first = value
            return True
        self.later.append(value)
        return False

    def estimate(self) -> float:
        """The median, at least 0; of few measurements the least, since all that disturbs them adds to them."""
        if len(self.later) >= _ENOUGH:
            return max(0.0, median(self.later))
        return max(0.0, min(self.first or 0.0, *self.later or [MOST_BELIEVED]))


class Costs:
    """Medians of what each part of a tracked step takes, in plain steps: so they bear a training that changes its pace.

    Args:
        yardstick: Tells how long a plain step is.
    """

    def __init__(self, yardstick: Yardstick) -> None:
        self.yardstick = yardstick
        self._parts: dict[Part, _Measured] = {}
        self._frames: dict[frozenset[Part], _Measured] = {}
        self._background: deque[float] = deque(maxlen=64)
        self._worked = LOG_BEGINS

    def add(self, seconds: float, parts: Iterable[Part], timed: Mapping[Part, float], background: float = 0.0) -> bool:
        """Learns from a tracked step, which needs a yardstick.

        Args:
            seconds: How long it took as a whole.
            parts: What it did.
            timed: Seconds of those parts that have a clock of their own.
            background: Seconds that the log's thread has worked so far.

        Returns:
            Whether something was done for the first time, so that the step is no measure.
        """
        plain, parts = self.yardstick.seconds(), frozenset(parts)
        assert plain is not None
        own = {part: taken / plain for part, taken in timed.items() if part in parts}
        fresh = [self._parts.setdefault(part, _Measured()).add(taken) for part, taken in own.items()]
        frame = self._frames.setdefault(parts & _FRAME, _Measured())
        fresh.append(frame.add(seconds / plain - 1 - sum(own.values())))
        self._background.append(max(0.0, background - self._worked) / plain)
        self._worked = max(background, self._worked)
        return any(fresh)

    def of(self, parts: Iterable[Part]) -> float:
        """What a step costs that does all of this, in plain steps; what has never been measured counts nothing."""
        parts = frozenset(parts)
        if not parts:
            return 0.0
        return self._frame(parts & _FRAME) + self._around() + sum(self._part(part) for part in parts - _FRAME)

    def charge(self, seconds: float, parts: Iterable[Part]) -> float:
        """What a step cost that took so long, in plain steps.

        What is far from the estimate is cut off there: it is the machine's doing, or the network's.
        """
        plain, around = self.yardstick.seconds(), self._around()
        assert plain is not None
        inside = self.of(parts) - around
        least, most = _BELIEVED
        return around + min(most * inside, max(least * inside, seconds / plain - 1))

    def share(self, part: Part) -> float:
        """What one part adds to a step, in plain steps."""
        if part == STEP:
            return self._frame(frozenset({STEP})) + self._around()
        if part == INDIVIDUAL:
            return max(0.0, self._frame(_FRAME) - self._frame(frozenset({STEP})))
        return self._part(part)

    def doubtful(self, parts: Iterable[Part]) -> bool:
        """Whether only a first run says what one of these costs, and says that it is much."""
        parts = frozenset(parts)
        known = [self._parts[part] for part in parts if part in self._parts]
        known += [self._frames[parts & _FRAME]] if parts & _FRAME in self._frames else []
        return any(not found.later and (found.first or 0.0) > _DOUBTFUL for found in known)

    def _part(self, part: Part) -> float:
        return self._parts[part].estimate() if part in self._parts else 0.0

    def _frame(self, parts: frozenset[Part]) -> float:
        """A wider frame tells the most that a narrower one can cost, and stands in for one that was not seen."""
        wider = [frame.estimate() for seen, frame in self._frames.items() if seen >= parts]
        return min(wider) if wider else max((frame.estimate() for frame in self._frames.values()), default=0.0)

    def _around(self) -> float:
        """What a tracked step costs outside of itself: in the steps that follow, and in the log's thread.

        The thread's work is counted in full, as on a machine that has no core to spare for it.
        """
        log = fmean(self._background) if self._background else 0.0
        return self.yardstick.aftermath() + log
