"""How long a step took, on devices too that work behind the interpreter's back."""

from __future__ import annotations

import time

import torch

_YARDSTICKS = 2
"""Untracked steps after a tracked one that are timed on an accelerator: each makes the interpreter wait for it."""


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
        self._began = 0.0

    def begin(self) -> None:
        """A step begins."""
        self._began = time.perf_counter()

    def track(self) -> None:
        """The step that begins is tracked."""
        if self._behind:
            torch.accelerator.synchronize(self._device)
            self._began, self._left = time.perf_counter(), _YARDSTICKS + 1

    def elapsed(self) -> float | None:
        """Seconds since the step began, as it ends; ``None`` for one that is not timed."""
        if self._behind:
            if self._left == 0:
                return None
            self._left -= 1
            torch.accelerator.synchronize(self._device)
        return time.perf_counter() - self._began
