"""What the cockpit costs, measured against steps that it leaves alone."""

from __future__ import annotations

from collections import deque
from statistics import median

_MEMORY = 200
_WARM_UP = 2
"""Tracked steps that compile loops, find the batch axis and touch memory first: no measure of the others."""


class Pace:
    """Durations of tracked and untracked steps.

    The overhead is the extra time of all tracked steps, as a share of what training would have taken without them. The
    yardstick is the median of the untracked steps, so it is unknown while every step is tracked. The first two tracked
    steps are left out: they do once what is not done again.
    """

    def __init__(self) -> None:
        self._untracked: deque[float] = deque(maxlen=_MEMORY)
        self._tracked_seconds = 0.0
        self._tracked_steps = -_WARM_UP
        self._untracked_steps = 0

    def untracked(self, seconds: float) -> None:
        """A step that was left alone."""
        self._untracked.append(seconds)
        self._untracked_steps += 1

    def tracked(self, seconds: float) -> None:
        """A step that instruments looked at."""
        self._tracked_steps += 1
        if self._tracked_steps > 0:
            self._tracked_seconds += seconds

    def settled(self, seconds: float) -> None:
        """What a tracked step cost after it was over, where its optimizer stepped later."""
        if self._tracked_steps > 0:
            self._tracked_seconds += seconds

    def overhead(self) -> float | None:
        """Extra time over plain time so far: 0.1 means ten percent; ``None`` before anything was measured."""
        if len(self._untracked) < 3 or self._tracked_steps <= 0:
            return None
        plain = median(self._untracked)
        extra = self._tracked_seconds - self._tracked_steps * plain
        return max(0.0, extra / (plain * (self._tracked_steps + self._untracked_steps)))
