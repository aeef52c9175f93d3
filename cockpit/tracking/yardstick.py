"""How long a step takes that nothing looks at: what every cost is measured against."""

from __future__ import annotations

from collections import deque
from statistics import median

_MEMORY = 24  # steps; training changes its pace
_ENOUGH = 3
_AFTERMATH = 8
"""Steps after a tracked one that may be slower for it: it has displaced what the caches held."""


class Yardstick:
    """The plain step: the median of the latest steps that were left alone.

    Those that soon follow a tracked step do not count where there are others, since they bear part of its cost. Where
    instruments with a schedule of their own leave no step alone, the steps with those only take their place.
    """

    def __init__(self) -> None:
        self._alone: deque[tuple[int, float]] = deque(maxlen=_MEMORY)
        self._fixed: deque[float] = deque(maxlen=_MEMORY)
        self._following: list[float] = []  # the first steps after a tracked one
        self._after = [deque[float](maxlen=15) for _ in range(_AFTERMATH)]
        self._since = _AFTERMATH  # steps since a tracked one

    def alone(self, seconds: float) -> None:
        """A step that nothing looked at."""
        self._since += 1
        self._alone.append((self._since, seconds))
        if self._since <= _AFTERMATH:
            self._following.append(seconds)

    def tracked(self, seconds: float, fixed: bool = False) -> None:
        """A step that was looked at.

        Args:
            seconds: How long it took.
            fixed: Whether only by instruments with a schedule of their own.
        """
        plain = self.seconds()
        if self._following and plain:
            for after, taken in zip(self._after, self._following, strict=False):
                after.append(taken / plain)
        self._following.clear()
        self._since = 0
        if fixed:
            self._fixed.append(seconds)

    @property
    def bare(self) -> bool:
        """Whether any step is left alone altogether."""
        return bool(self._alone)

    def seconds(self) -> float | None:
        """Length of a plain step; ``None`` before there are enough."""
        if not self.bare:
            return median(self._fixed) if len(self._fixed) >= _ENOUGH else None
        far = [seconds for since, seconds in self._alone if since > _AFTERMATH]
        near = [seconds for _, seconds in self._alone]
        if len(near) < _ENOUGH:
            return None
        return median(far if len(far) >= _ENOUGH else near)

    def aftermath(self) -> float:
        """What the steps after a tracked one take longer, all together, in plain steps."""
        return max(0.0, sum(median(after) - 1 for after in self._after if len(after) >= _ENOUGH))
