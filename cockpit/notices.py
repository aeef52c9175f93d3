"""What the user has to be told, each thing once: as a warning, and as an event on the panel concerned."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

from cockpit.parameters import ParameterTable
from cockpit.store import Writer


class CockpitWarning(UserWarning):
    """Something that a cockpit cannot do, or that looks like a mistake."""


class Notices:
    """Says everything once.

    Args:
        writer: Takes the events.
        seconds: Gives the seconds since the run began.
    """

    def __init__(self, writer: Writer, seconds: Callable[[], float]) -> None:
        self._writer, self._seconds = writer, seconds
        self._said: set[tuple[str, str]] = set()

    def unheld(self, table: ParameterTable) -> None:
        """Trainable parameters that no optimizer holds."""
        if table.unheld:
            names = _listed(table.unheld)
            self._say(f"no optimizer holds {names}: trainable, but never updated, and left out of every reading")

    def unavailable(self, step: int, reasons: Mapping[str, str]) -> None:
        """Readings that the step could not give, by instrument: one warning for all with the same reason."""
        fresh = {name: reason for name, reason in reasons.items() if (name, reason) not in self._said}
        self._said.update(fresh.items())
        for reason in dict.fromkeys(fresh.values()):
            names = [name for name, own in fresh.items() if own == reason]
            for name in names:
                self._writer.event(step, self._seconds(), "warning", reason, name)
            _warn(f"step {step} gives no reading of {', '.join(sorted(names))}: {reason}")

    def failed(self, step: int, name: str, error: Exception) -> None:
        """An instrument raised."""
        text = f"{name} failed: {type(error).__name__}: {error}"
        if (name, type(error).__name__) not in self._said:
            self._said.add((name, type(error).__name__))
            self._writer.event(step, self._seconds(), "error", text, name)
            _warn(f"{text}; training goes on, and so do the other instruments")

    def _say(self, text: str) -> None:
        self._writer.event(None, self._seconds(), "warning", text)
        _warn(text)


def _warn(text: str) -> None:
    warnings.warn(text, CockpitWarning, stacklevel=2)


def _listed(names: tuple[str, ...], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more parameters"
