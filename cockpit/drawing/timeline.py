"""What the horizontal axis of a training shows: steps, their logarithm, samples, time of day, time since its start."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from cockpit.store import Column

Measure: TypeAlias = Literal["step", "log", "wall", "relative", "samples"]
MEASURES: tuple[Measure, ...] = ("step", "log", "wall", "relative")  # of which every run knows where its readings stand

DAY = 86_400.0  # seconds
FIRST = 0.5  # where a logarithmic axis shows step 0
UNITS = ((300.0, 1.0, "seconds"), (5 * 3600.0, 60.0, "minutes"), (float("inf"), 3600.0, "hours"))
VEIL_BEYOND = 0.02  # of the run: what is drawn at the last step is veiled in full


def _nothing() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass(frozen=True)
class Timeline:
    """Where steps stand on the axis.

    Args:
        measure: What the axis shows.
        steps: Steps whose time is known, increasing. Shape ``[n]``.
        times: Seconds since the run began, at these steps. Shape ``[n]``.
        created: When the run began, in seconds since 1970.
        sizes: Batch sizes, at least one of them known, for an axis of samples.
        longest: Seconds that the axis reaches over, where several runs stand on it; the unit of time suits the longest.
        ahead: Seconds by which the reader's clock is ahead of universal time, see :func:`ahead_of`.
    """

    measure: Measure = "step"
    steps: NDArray[np.float64] = field(default_factory=_nothing)
    times: NDArray[np.float64] = field(default_factory=_nothing)
    created: float = 0.0
    sizes: Column | None = None
    longest: float = 0.0
    ahead: float = 0.0

    @property
    def length(self) -> float:
        """How long the run has lasted, or the longest of several, in seconds."""
        known = self.times[np.isfinite(self.times)]
        return max(self.longest, float(known.max()) if len(known) else 0.0)

    @property
    def _unit(self) -> tuple[float, str]:
        """Seconds in the unit that suits the run's length, and its name."""
        return next((size, name) for most, size, name in UNITS if self.length < most)

    @property
    def title(self) -> str:
        """The axis' name."""
        day = f"{self._day if self.length < DAY else 'time of day'}, {self._zone}"
        names: dict[Measure, str] = {
            "step": "step",
            "log": "step",
            "wall": day,
            "relative": f"{self._unit[1]} of training",
            "samples": "samples seen",
        }
        return names[self.measure]

    @property
    def _day(self) -> str:
        """When the run began, if its machine's clock said what the calendar has."""
        try:
            return f"{datetime.fromtimestamp(self.created + self.ahead, timezone.utc):%Y-%m-%d}"
        except (ValueError, OverflowError, OSError):
            return "time of day"

    @property
    def _zone(self) -> str:
        """``UTC+05:30``."""
        return str(timezone(timedelta(seconds=self.ahead)))

    @property
    def logarithmic(self) -> bool:
        """Whether the axis is."""
        return self.measure == "log"

    def of(self, column: Column) -> NDArray[np.int64] | NDArray[np.float64]:
        """Where the points of a column stand. Shape ``[n]``."""
        return self.placed(column.steps, column.times)

    def at(self, step: int, time: float | None = None) -> float:
        """Where a step stands; its time, if it is not given, is that of the steps around it."""
        seconds = self._time_of(float(step)) if time is None else time
        return float(self.placed(np.array([step]), np.array([seconds]))[0])

    def placed(self, steps: NDArray[np.int64], times: NDArray[np.float64]) -> NDArray[np.int64] | NDArray[np.float64]:
        """Where readings stand that were made at these steps and times. Shape ``[n]``."""
        if self.measure == "step":
            return steps
        if self.measure == "log":
            return np.maximum(steps.astype(np.float64), FIRST)
        if self.measure == "wall":
            return 1000 * (self.created + self.ahead + times)  # as browsers count
        if self.measure == "samples":
            assert self.sizes is not None, "an axis of samples needs batch sizes"
            return samples_at(steps, self.sizes)
        relative: NDArray[np.float64] = times / self._unit[0]
        return relative

    def _time_of(self, step: float) -> float:
        return float(np.interp(step, self.steps, self.times)) if len(self.steps) else 0.0

    def beyond(self, start: float, first: float, last: float) -> float:
        """A little right of ``last``, where what is drawn there is seen in full.

        Args:
            start: Never less than right of this.
            first: Where the axis begins.
            last: Where it ends.
        """
        if self.measure == "log":
            return float(max(start, last * max(last / first, 1.0) ** VEIL_BEYOND) * 1.001)
        least = {"step": 1.0, "wall": 1000.0}.get(self.measure, 1e-3)
        return max(start, last) + max(least, VEIL_BEYOND * (last - first))

    def ends(self, low: float, high: float) -> list[float] | list[str]:
        """A stretch of the axis as a figure's range says it: times of day as texts, if the calendar has them.

        Of times of day milliseconds since 1970 are given, wherever the reader is.
        """
        if self.measure != "wall":
            return [low, high]
        try:
            moments = [datetime.fromtimestamp(end / 1000 + self.ahead, timezone.utc) for end in (low, high)]
        except (ValueError, OverflowError, OSError):
            return [low, high]
        return [f"{moment:%Y-%m-%d %H:%M:%S.%f}" for moment in moments]

    def steps_between(self, low: float, high: float) -> tuple[int, int]:
        """First and last step of a stretch of the axis, as the axis states its own range; of time see :meth:`ends`."""
        if self.measure == "log":
            low, high = (10 ** min(end, 18.0) for end in (low, high))
        elif self.measure != "step" and len(self.steps):
            unit = 1000.0 if self.measure == "wall" else 1 / self._unit[0]
            origin = self.created if self.measure == "wall" else 0.0
            low, high = (float(np.interp(end / unit - origin, self.times, self.steps)) for end in (low, high))
        return int(np.floor(low)), int(np.ceil(high))


def ahead_of(zone: str, moment: float) -> float:
    """By how many seconds clocks of a time zone were ahead of universal time; 0 where nothing is known of the zone.

    Args:
        zone: Its name, ``"Europe/Berlin"``, from wherever.
        moment: Seconds since 1970.
    """
    try:
        offset = datetime.fromtimestamp(moment, ZoneInfo(zone)).utcoffset() if zone else None
    except (ValueError, OverflowError, OSError, ZoneInfoNotFoundError):
        return 0.0
    return offset.total_seconds() if offset else 0.0


def samples_at(steps: NDArray[np.int64], sizes: Column) -> NDArray[np.float64]:
    """Samples seen when a step is over: a batch size holds until another is logged.

    Args:
        steps: Shape ``[n]``.
        sizes: Batch sizes, at least one of them known.

    Returns:
        Shape ``[n]``.
    """
    known = ~sizes.missing & np.isfinite(sizes.values)
    at, size = sizes.steps[known].astype(np.float64), sizes.values[known].astype(np.float64)
    before = np.concatenate([[0.0], np.cumsum(size[:-1] * np.diff(at))])  # seen before each of these steps
    index = np.maximum(np.searchsorted(at, steps, side="right") - 1, 0)
    seen: NDArray[np.float64] = size[0] * at[0] + before[index] + size[index] * (steps + 1 - at[index])
    return seen
