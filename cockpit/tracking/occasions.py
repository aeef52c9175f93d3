"""What happens in a run that its curves are read by: jumps of the learning rate, and evaluations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

JUMP, SHARE = 2.0, 0.25
"""How many times the last relative change one has to be, and what share of the rate, to stand out from a schedule that
changes it at every step."""

EVALUATIONS = frozenset(("valid", "validation", "val", "eval", "evaluation", "test", "dev", "holdout"))
"""Words in the name of a metric that is not one of training."""


class RateChanges:
    """Tells changes of the learning rate that are worth a mark.

    A rate that changes at every reading, as warm-up and cosine schedules do, is told once, where it begins to; after
    that only what jumps out of the schedule, such as a restart. A rate that stood still is told whenever it changes.
    """

    def __init__(self) -> None:
        self._rates: list[float] | None = None
        self._last = 0.0  # relative change between the last two readings

    def told(self, rates: Sequence[float]) -> str:
        """What to say of the rates of a step, one for each group of parameters; nothing if there is nothing to say."""
        before, self._rates = self._rates, list(rates)
        if before is None or len(before) != len(rates):
            self._last = 0.0
            return ""
        changes = [_relative(old, new) for old, new in zip(before, rates, strict=True)]
        last, self._last = self._last, max(changes, default=0.0)
        if self._last == 0 or (last > 0 and not self._last > max(JUMP * last, SHARE)):
            return ""
        first = next(place for place, change in enumerate(changes) if change)
        group = f" of group {first}" if len(rates) > 1 and changes.count(0.0) else ""
        return f"learning rate{group} {before[first]:.4g} → {rates[first]:.4g}"


def _relative(old: float, new: float) -> float:
    """Size of a change beside the smaller of both; a change from or to 0 is as large as can be."""
    if old == new:
        return 0.0
    smaller = min(abs(old), abs(new))
    return abs(new - old) / smaller if smaller else float("inf")


class Evaluations:
    """Tells evaluations by the names that are logged, ``valid/accuracy`` or ``test_loss``: once for each step, and not
    those that are logged step by step."""

    def __init__(self) -> None:
        self._last: int | None = None

    def told(self, step: int, names: Iterable[str]) -> str:
        """What to say of metrics that were logged at a step; nothing if there is nothing to say."""
        found = [name for name in names if EVALUATIONS & set(re.split(r"[^0-9a-z]+", name.lower()))]
        if not found:
            return ""
        last, self._last = self._last, step
        return "" if last is not None and last in (step - 1, step) else f"logged {', '.join(found)}"
