"""What every run tells beside its instruments: learning rate, batch size, the cockpit's own cost, and coverage."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cockpit.coverage import Coverage
from cockpit.open_step import OpenStep
from cockpit.pace import Pace
from cockpit.reading import Reading
from cockpit.step import Step
from cockpit.store import Writer

KEYS = ("learning_rate", "batch_size", "cockpit.overhead")
"""Log keys that every run has."""


class Bookkeeping:
    """Keeps the books of one run.

    Args:
        writer: Takes the coverage.
        pace: Knows the cost.
        headline: What is on, to be printed once coverage is known.
        run: Where the run is logged.
    """

    def __init__(self, writer: Writer, pace: Pace, headline: str, run: object) -> None:
        self._writer, self._pace, self._headline, self._run = writer, pace, headline, run
        self._coverage: Coverage | None = None

    def readings(self, step: Step, rates: Sequence[float]) -> dict[str, Reading]:
        """Readings under :data:`KEYS`.

        Args:
            step: A step that is over.
            rates: Learning rates that it was made with, one for each group of parameters.
        """
        entries = {"cockpit.overhead": Reading(self._pace.overhead())}
        if rates:
            layers = {f"group {i}": rate for i, rate in enumerate(rates)} if len(rates) > 1 else {}
            entries["learning_rate"] = Reading(rates[0], layers)
        if step.samples is not None:
            entries["batch_size"] = Reading(float(step.samples))
        return entries

    def announce(self, step: OpenStep) -> None:
        """Logs coverage whenever it changes; and says once, in one line, what is on."""
        coverage = Coverage.of(step.surroundings, step.coupled) if step.looked_at_samples else None
        if coverage is not None and coverage != self._coverage:
            self._coverage = coverage
            self._writer.document("coverage", coverage.to_json())
        if self._headline:
            covered = "" if coverage is None else f", {coverage}"
            print(f"cockpit: {self._headline}{covered} -> {self._run}", file=sys.stderr)
            self._headline = ""
