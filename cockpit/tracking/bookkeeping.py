"""What every run tells beside its instruments: learning rate, batch size, the cockpit's own cost, and coverage."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cockpit.instrument import Instrument
from cockpit.reading import Reading
from cockpit.schedule import Schedule, describe
from cockpit.step import Step
from cockpit.tracking.coverage import Coverage
from cockpit.tracking.open_step import OpenStep
from cockpit.tracking.pace import Pace
from cockpit.tracking.places import OpenedLog

KEYS = ("learning_rate", "batch_size", "cockpit.overhead")
"""Log keys that every run has."""


class Bookkeeping:
    """Keeps the books of one run.

    Args:
        log: Takes the coverage.
        pace: Knows the cost.
        instruments: What is on.
        schedule: How often it is read.
    """

    def __init__(self, log: OpenedLog, pace: Pace, instruments: Sequence[Instrument], schedule: Schedule) -> None:
        self._log, self._pace = log, pace
        number = len(instruments)
        self._headline = f"{number} instrument{'s' if number > 1 else ''}, {describe(schedule)}"
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
            self._log.writer.document("coverage", coverage.to_json())
        if self._headline:
            covered = "" if coverage is None else f", {coverage}"
            print(f"cockpit: {self._headline}{covered} -> {self._log.place}", file=sys.stderr)
            self._headline = ""
