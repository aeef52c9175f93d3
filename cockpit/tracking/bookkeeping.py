"""What every run tells beside its instruments: learning rate, batch size, the cockpit's own cost, and coverage."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from cockpit.forward_order import FORWARD, before_their_parts, in_depth_order
from cockpit.instrument import Instrument
from cockpit.reading import Reading
from cockpit.schedule import Auto, Schedule, describe, describe_intervals
from cockpit.step import Step
from cockpit.tracking.budget import Budget
from cockpit.tracking.coverage import Coverage
from cockpit.tracking.occasions import Evaluations, RateChanges
from cockpit.tracking.open_step import OpenStep
from cockpit.tracking.places import OpenedLog
from cockpit.tracking.plan import Plan

KEYS = ("learning_rate", "batch_size", "cockpit.overhead")
"""Log keys that every run has."""

PLAN_KEYS = ("cockpit.interval", "cockpit.cost")
"""Log keys of what the budget decides, by instrument: steps between readings, and plain steps that one costs."""


class Bookkeeping:
    """Keeps the books of one run.

    Args:
        log: Takes the coverage, the order of modules, and what the budget decides.
        budget: Knows the cost.
        instruments: What is on.
        schedule: How often it is read.
        wanted: What the user asked for, where it has a name.

    Attributes:
        plan: What was told last.
    """

    def __init__(
        self, log: OpenedLog, budget: Budget, instruments: Sequence[Instrument], schedule: Schedule | Auto, wanted: str
    ) -> None:  # fmt: skip
        self._log, self._budget = log, budget
        number = len(instruments)
        self._what = f"{f'{wanted}: ' if wanted else ''}{number} instrument{'s' if number > 1 else ''}"
        self._headline = f"{self._what}, {describe(schedule)}" if log.job.leads else ""
        self._coverage: Coverage | None = None
        self.plan: Plan | None = None
        self._measured = False
        self._rate_changes, self._evaluations = RateChanges(), Evaluations()
        self._order: list[str] = []
        self._called: set[str] = set()

    def readings(self, step: Step, rates: Sequence[float]) -> dict[str, Reading]:
        """Readings under :data:`KEYS`.

        Args:
            step: A step that is over.
            rates: Learning rates that it was made with, one for each group of parameters.
        """
        entries = {"cockpit.overhead": Reading(self._budget.overhead())}
        if rates:
            layers = {f"group {i}": rate for i, rate in enumerate(rates)} if len(rates) > 1 else {}
            entries["learning_rate"] = Reading(rates[0], layers)
        if step.samples is not None:
            entries["batch_size"] = Reading(float(step.samples))
        return entries

    def tell_rates(self, step: Step, rates: Sequence[float]) -> None:
        """Logs an event where the learning rate changes, see :class:`RateChanges`."""
        if words := self._rate_changes.told(rates):
            self._log.writer.event(step.index, step.time, "learning_rate", words)

    def tell_evaluation(self, step: int, seconds: float, names: Iterable[str]) -> None:
        """Logs an event where metrics of an evaluation are logged, see :class:`Evaluations`."""
        if words := self._evaluations.told(step, names):
            self._log.writer.event(step, seconds, "evaluation", words)

    def announce(self, step: OpenStep) -> None:
        """Logs coverage and the order of modules, whenever they change; and says once, in one line, what is on."""
        coverage = Coverage.of(step.surroundings, step.coupled) if step.looked_at_samples else None
        if coverage is not None and coverage != self._coverage:
            self._coverage = coverage
            self._log.writer.document("coverage", coverage.to_json())
        if not self._called.issuperset(returned := step.capture.returned):
            self._order = in_depth_order([self._order, before_their_parts(returned)])
            self._called = set(self._order)
            self._log.writer.document(FORWARD, self._order)
        if self._headline:
            print(f"cockpit: {self._headline}{self._covered()} -> {self._log.place}", file=sys.stderr)
            self._headline = ""

    def tell_plan(self, step: int, seconds: float) -> None:
        """Logs how often instruments are read and what that costs, whenever it changes; and says once what came out.

        Args:
            step: The latest step.
            seconds: Since the run began.
        """
        plan = self._budget.plan
        if plan is None:
            return
        if self.plan is None or self.plan.intervals() != plan.intervals():
            intervals, costs = plan.intervals(), self._budget.costs()
            of_plan = (
                Reading(float(min(intervals.values())), {name: float(steps) for name, steps in intervals.items()}),
                Reading(sum(costs.values()), {name: costs[name] for name in intervals}),
            )
            self._log.writer.put(step, seconds, dict(zip(PLAN_KEYS, of_plan, strict=True)))
        self.plan = plan
        if self._budget.settled and not self._measured and self._log.job.leads:
            self._measured = True
            often = describe_intervals(plan.intervals().values())
            print(
                f"cockpit: {self._what}, +{plan.cost:.0%}, {often}{self._covered()}".replace("%", " %", 1),
                file=sys.stderr,
            )

    def _covered(self) -> str:
        return "" if self._coverage is None else f", {self._coverage}"
