"""What the user has to be told, each thing once: as a warning, and as an event on the panel concerned."""

from __future__ import annotations

import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cockpit.parameters import ParameterTable
from cockpit.store import Writer

_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


class CockpitWarning(UserWarning):
    """Something that a cockpit cannot do, or that looks like a mistake."""

    __module__ = "cockpit"  # where users find it


class Notices:
    """Says everything once. Events go to the log at once; warnings wait for :meth:`tell`.

    Where the user has made warnings errors, one must not be raised from a hook inside their backward pass, nor before
    the step's readings are logged.

    Args:
        writer: Takes the events.
        seconds: Gives the seconds since the run began.
        aloud: Whether there are warnings: of a job's processes the first one's are enough.
    """

    def __init__(self, writer: Writer, seconds: Callable[[], float], aloud: bool = True) -> None:
        self._writer, self._seconds, self._aloud = writer, seconds, aloud
        self._said: set[tuple[str, str]] = set()
        self._untold: list[str] = []

    def unheld(self, table: ParameterTable) -> None:
        """Trainable parameters that no optimizer holds."""
        if table.unheld:
            names = _listed(table.unheld)
            self._say(None, "warning", f"no optimizer holds {names}: never updated, and left out of every reading")

    def joined(self, step: int, names: Sequence[str]) -> None:
        """Parameters that training has taken up since the cockpit began."""
        if names and self._is_new("", "joined " + " ".join(names)):
            words = (
                f"{_listed(names)} joined the training after the cockpit began, and no reading holds them: "
                "close this cockpit and make another, with resume=True to go on with the same run"
            )
            self._say(step, "warning", words)

    def unavailable(self, step: int, reasons: Mapping[str, str]) -> None:
        """Readings that the step could not give, by instrument: one warning for all with the same reason."""
        fresh = {name: reason for name, reason in reasons.items() if self._is_new(name, reason)}
        for reason in dict.fromkeys(fresh.values()):
            names = sorted(name for name, own in fresh.items() if own == reason)
            for name in names:
                self._writer.event(step, self._seconds(), "warning", reason, name)
            self._untold.append(f"step {step} gives no reading of {', '.join(names)}: {reason}")

    def failed(self, step: int, what: str, error: Exception, subject: str = "") -> None:
        """Something that is not the user's training raised: an instrument, a schedule, the capture.

        Args:
            step: The step that gives no reading for it.
            what: What raised.
            error: What it raised.
            subject: Instrument that is concerned, if it is one.
        """
        if self._is_new(what, type(error).__name__):
            text = f"{what} failed at step {step}: {type(error).__name__}: {error}{_place_of(error)}"
            self._say(step, "error", text, subject, "; training goes on")

    def tell(self) -> None:
        """Gives the warnings that have come together, at the line of the user's own code that is running."""
        if not self._aloud:
            self._untold.clear()
        while self._untold:
            warnings.warn(self._untold.pop(0), CockpitWarning, stacklevel=depth_of_the_users_code())

    def _is_new(self, subject: str, text: str) -> bool:
        """Whether this has not been said yet; words that differ in a number only are the same."""
        said = (subject, _NUMBER.sub("#", text))
        if said in self._said:
            return False
        self._said.add(said)
        return True

    def _say(self, step: int | None, kind: str, text: str, subject: str = "", more: str = "") -> None:
        self._writer.event(step, self._seconds(), kind, text, subject)
        self._untold.append(text + more)


def _place_of(error: Exception) -> str:
    """The line that raised, for whoever wrote it."""
    lines = traceback.extract_tb(error.__traceback__)
    return f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""


def depth_of_the_users_code() -> int:
    """How many frames above the caller the first one is that is neither ours nor torch's, as ``stacklevel`` counts."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("cockpit", "torch"):
        depth, frame = depth + 1, frame.f_back
    return depth


def _listed(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more parameters"
