"""How long a step took, on devices too that work behind the interpreter's back."""

from __future__ import annotations

import time

import torch

_YARDSTICKS = 2
"""Untracked steps after a tracked one that are timed on an accelerator: each makes the interpreter wait for it."""

WEIGHED = 16
"""Of so many steps one is looked at for what leaving it alone takes."""

_MOST_IDLE = 1e-4
"""Seconds that leaving a step alone can take: what is longer is the machine's doing."""


class Clock:
    """Times one step after the other.

    On an accelerator a step is timed from a moment when the device had nothing left to do to the next such moment. The
    interpreter waits for these moments only around tracked steps and a few after them.

    Args:
        device: Where the model is.
    """

    def __init__(self, device: torch.device) -> None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        self._behind = accelerator is not None and accelerator.type == device.type
        self._device = device
        self._left = 0  # steps that are still to be timed
        self._began = self._entered = self._ended = 0.0
        self.weighing = False  # what the present step, which is left alone, takes of the cockpit's own
        self.idle = 0.0
        """Seconds that the cockpit itself has spent on steps that it left alone."""

    def begin(self) -> None:
        """A step begins."""
        self._began = self._entered = time.perf_counter()

    def leave_alone(self) -> None:
        """The step that begins is not tracked: what was done to find that out is no part of it.

        To be called at every :data:`WEIGHED`-th step, which stands for the others: to look at the time takes some too.
        """
        self._began, self.weighing = time.perf_counter(), True

    def left_alone(self) -> None:
        """All has been done that there is to do after such a step."""
        taken = self._began - self._entered + time.perf_counter() - self._ended
        self.idle += WEIGHED * min(taken, _MOST_IDLE)
        self.weighing = False

    def track(self) -> None:
        """The step that begins is tracked."""
        if self._behind:
            torch.accelerator.synchronize(self._device)
            self._began, self._left = time.perf_counter(), _YARDSTICKS + 1

    def elapsed(self) -> float | None:
        """Seconds since the step began, as it ends; ``None`` for one that is not timed."""
        if self._behind:
            if self._left == 0:
                self._ended = time.perf_counter()
                return None
            self._left -= 1
            torch.accelerator.synchronize(self._device)
        self._ended = time.perf_counter()
        return self._ended - self._began
