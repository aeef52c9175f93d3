"""Which instruments look at which steps, and what they read once they have seen enough of them."""

from __future__ import annotations

import dataclasses
import numbers
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from cockpit.capture.unavailable import Unavailable
from cockpit.instrument import Instrument
from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.probes.probe import Probe
from cockpit.probes.roster import Roster, needs_check, with_foundations
from cockpit.reading import Histogram, Histogram2d, Reading
from cockpit.schedule import Auto, Schedule
from cockpit.step import Step
from cockpit.tracking.budget import Budget, Work
from cockpit.tracking.costs import INDIVIDUAL, MOVEMENT, STEP, Later, Part
from cockpit.tracking.notices import Notices
from cockpit.tracking.plan import Job

_AUDIENCES = 64
"""So many are remembered."""


@dataclass(frozen=True)
class Audience:
    """Who looks at one step.

    Args:
        beginning: Instruments whose window begins with it.
        continuing: Instruments whose window began earlier.
        spaced: Names of those that leave it to the budget.
    """

    beginning: tuple[Instrument, ...]
    continuing: tuple[Instrument, ...]
    spaced: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.beginning or self.continuing)

    @cached_property
    def roster(self) -> Roster:
        """What has to be collected for them."""
        return Roster.of(_probes(self.beginning), _probes(self.continuing))

    def work(self, timed: Mapping[Part, float]) -> Work:
        """What it all came to.

        Args:
            timed: Seconds that parts of the step took.
        """
        late = self._late
        return Work(*self._asked_for, timed={late.get(part, part): seconds for part, seconds in timed.items()})

    @cached_property
    def _late(self) -> dict[Part, Part]:
        """Probes that are collected for windows that began earlier alone: what they do there costs something else."""
        begun = set(with_foundations(_probes(self.beginning)))
        return {probe: Later(probe) for probe in with_foundations(_probes(self.continuing)) if probe not in begun}

    @cached_property
    def _asked_for(self) -> tuple[frozenset[str], frozenset[Part], frozenset[Part]]:
        """Names that the budget had begin, what it made the step do, and what the others did."""
        spaced, fixed = (
            _parts(
                (i for i in self.beginning if (i.name in self.spaced) is which),
                (i for i in self.continuing if (i.name in self.spaced) is which),
            )
            for which in (True, False)
        )
        return frozenset(i.name for i in self.beginning if i.name in self.spaced), spaced, fixed

    def looks_back(self) -> bool:
        """Whether anybody looks at this step and the one before it."""
        return bool(self.continuing)

    def looks_ahead(self) -> bool:
        """Whether anybody looks at this step and the next."""
        return any(instrument.window > 1 for instrument in self.beginning)


_NOBODY = Audience((), ())


def _probes(instruments: Iterable[Instrument]) -> Iterator[Probe[Any]]:
    return (probe for instrument in instruments for probe in instrument.probes())


def _parts(beginning: Iterable[Instrument], continuing: Iterable[Instrument] = ()) -> frozenset[Part]:
    """What instruments make a step do, in which their windows begin, or that lies further on in them."""
    beginning, continuing = list(beginning), list(continuing)
    first, last = with_foundations(_probes(beginning)), with_foundations(_probes(continuing))
    probes = [*first, *last]
    parts: set[Part] = {*first, *(Later(probe) for probe in last if probe not in first)}
    parts |= {i.name for i in (*beginning, *continuing)}
    if parts:
        parts.add(STEP)
    if any(probe.individual for probe in probes):
        parts.add(INDIVIDUAL)
    if needs_check(first, last) and PerSampleMoments() not in last:
        parts.add(PerSampleMoments())
    if any(probe.movement for probe in probes):
        parts.add(MOVEMENT)
    return frozenset(parts)


def _job(instrument: Instrument) -> Job:
    """As the budget sees it. What differentiates twice is read apart from the others the first time."""
    heavy = any(probe.second_order for probe in with_foundations(instrument.probes()))
    return Job(instrument.name, _parts([instrument]), instrument.window, not heavy, _parts([], [instrument]))


class Windows:
    """The instruments, and the steps each of them has seen so far.

    Args:
        instruments: The instruments.
        schedule: When those are read that have no schedule of their own.
        share: The budget of those that are read as often as it allows.
        notices: Told of instruments and schedules that raise.

    Attributes:
        budget: Knows when those are due, and what all of them cost.
        seconds: What each instrument took that was read with the latest step.
    """

    def __init__(
        self, instruments: Sequence[Instrument], schedule: Schedule | Auto, share: float, notices: Notices
    ) -> None:  # fmt: skip
        self._instruments, self._schedule, self._notices = instruments, schedule, notices
        spaced = [i for i in instruments if isinstance(schedule if i.schedule is None else i.schedule, Auto)]
        self._spaced = frozenset(i.name for i in spaced)
        self._own = any(i.schedule is not None and i.name not in self._spaced for i in instruments)
        self.budget = Budget(map(_job, spaced), share)
        self.seconds: dict[Part, float] = {}
        self._open: list[tuple[Instrument, list[Step]]] = []
        self._audiences: dict[tuple[tuple[Instrument, ...], tuple[Instrument, ...]], Audience] = {}

    def begin(self, index: int) -> Audience:
        """Who looks at the step that begins now."""
        affordable = self.budget.due()
        due = self._asked("the schedule given as track", self._schedule, index)
        if not (due or affordable or self._own or self._open):
            return _NOBODY  # most steps, and short ones: nothing is gone through for them
        continuing = tuple(instrument for instrument, _ in self._open)
        beginning = tuple(
            i
            for i in self._instruments
            if i.name in affordable
            or (due if i.schedule is None else self._asked(f"the schedule of {i.name}", i.schedule, index, i.name))
        )
        self._open += [(instrument, []) for instrument in beginning]
        return self._audience(beginning, continuing)

    def _audience(self, beginning: tuple[Instrument, ...], continuing: tuple[Instrument, ...]) -> Audience:
        """The same few come together again and again."""
        found = self._audiences.get((beginning, continuing))
        if found is None:
            if len(self._audiences) >= _AUDIENCES:  # schedules that never meet twice in the same way
                self._audiences.clear()
            found = self._audiences[beginning, continuing] = Audience(beginning, continuing, self._spaced)
        return found

    def _asked(self, what: str, schedule: Schedule | Auto, index: int, subject: str = "") -> bool:
        if isinstance(schedule, Auto):
            return False
        try:
            return bool(schedule(index))
        except Exception as error:
            self._notices.failed(index, what, error, subject)
            return False

    def forget(self) -> None:
        """Gives up every window that is open: a step that belongs to it came to nothing."""
        self._open.clear()

    def add(self, step: Step) -> dict[int, dict[str, Reading]]:
        """Takes a step that is over, and reads every instrument whose window is complete with it.

        Returns:
            Readings by name, by the step they belong to: the first of the window.
        """
        self.seconds.clear()
        readings: dict[int, dict[str, Reading]] = {}
        missing: dict[int, dict[str, str]] = {}
        still_open: list[tuple[Instrument, list[Step]]] = []
        for instrument, steps in self._open:
            steps.append(step)
            first = steps[0].index
            if len(steps) < instrument.window:
                still_open.append((instrument, steps))
                if (reason := _foreseen(instrument, step)) is not None:
                    missing.setdefault(first, {})[instrument.name] = reason
                continue
            readings.setdefault(first, {})[instrument.name] = self._read(instrument, steps, missing)
        self._open = still_open
        for first, reasons in missing.items():
            self._notices.unavailable(first, reasons)
        return readings

    def _read(self, instrument: Instrument, steps: Sequence[Step], missing: dict[int, dict[str, str]]) -> Reading:
        """One instrument's reading; whatever it raises stays here."""
        first, began = steps[0].index, time.perf_counter()
        try:
            return _as_reading(instrument.compute(steps))
        except Unavailable as reason:
            missing.setdefault(first, {})[instrument.name] = str(reason)
        except Exception as error:
            self._notices.failed(first, instrument.name, error, instrument.name)
        finally:
            self.seconds[instrument.name] = time.perf_counter() - began
        return Reading(None)


def _foreseen(instrument: Instrument, step: Step) -> str | None:
    """Why there will be no reading, where the first steps of the window tell already: it is said with the others."""
    try:
        for probe in instrument.probes():
            step[probe]
    except Unavailable as reason:
        return str(reason)
    return None


def _as_reading(value: object) -> Reading:
    """What ``compute`` returned, as the log takes it.

    Raises:
        TypeError: If it is nothing that could be logged.
    """
    reading = value if isinstance(value, Reading) else Reading(value)  # type: ignore[arg-type]
    number: object = reading.value
    if number is None or isinstance(number, (Histogram, Histogram2d, float)):
        return reading
    if isinstance(number, (Tensor, np.generic, np.ndarray)):
        number = number.item()
    if not isinstance(number, numbers.Real):
        raise TypeError(f"an instrument returns a number, a histogram, None or a Reading, got {number!r}")
    return dataclasses.replace(reading, value=float(number))
