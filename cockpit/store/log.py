"""What a writer's thread does with a log that it holds, whatever keeps it."""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from cockpit.store.batch import Batch

if TYPE_CHECKING:
    from cockpit.store.upkeep import Remainder


class TakenOver(RuntimeError):
    """Another writer holds the run."""


class Log(ABC):
    """Writes, one batch after the other."""

    @abstractmethod
    def commit(self, batch: Batch, dropped: int) -> Remainder | None:
        """Writes a batch and a heartbeat, all of it or nothing.

        Args:
            batch: Its rows; after a failure it may be written again.
            dropped: Items that the writer could not keep up with so far.

        Returns:
            What is left of the series, where the batch shows that its writer goes on at an earlier step than was known.

        Raises:
            OSError: If the log is no longer there.
            TakenOver: If another writer holds the run by now.
            Exception: The driver's own, if the disk is full, the file locked, or the server lost.
        """

    @abstractmethod
    def finish(self, state: str, cursor: int, dropped: int) -> None:
        """Writes how the run ended, and leaves the log as it is to be kept.

        Raises:
            Exception: As :meth:`commit`.
        """

    @abstractmethod
    def disconnect(self) -> None:
        """Lets go of what is open; the next call opens it again."""


def report(words: str) -> None:
    """Tells the user without raising, also where warnings are errors."""
    try:
        warnings.warn_explicit(words, RuntimeWarning, "cockpit", 0)  # no line of the user's has to do with it
    except RuntimeWarning:
        print(f"cockpit: {words}", file=sys.stderr)
