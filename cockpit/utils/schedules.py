"""Schedules by the names that f-dangel/cockpit gives them; :mod:`cockpit.schedule` has Cockpit's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def linear(interval: int, offset: int = 0) -> Callable[[int], bool]:
    """Steps ``offset``, ``offset + interval``, ``offset + 2 interval``, and so on.

    Raises:
        ValueError: For an interval below 1.
    """
    if interval < 1:
        raise ValueError(f"the interval must be at least 1, got {interval!r}")

    def schedule(global_step: int) -> bool:
        return global_step >= offset and (global_step - offset) % interval == 0

    return schedule


def logarithmic(
    start: float, end: float, steps: int = 300, base: float = 10, init: bool = True
) -> Callable[[int], bool]:
    """Steps equally spaced in their logarithm, rounded down.

    Args:
        start: Exponent of the first.
        end: Exponent of the last.
        steps: How many; those that fall together are one.
        base: Of the exponents.
        init: Whether step 0 is one of them.
    """
    chosen = {int(step) for step in np.logspace(start, end, steps, base=base)} | ({0} if init else set())

    def schedule(global_step: int) -> bool:
        return global_step in chosen

    return schedule
