"""Ticks that are few, round, and labelled with no more digits than tell them apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import Formatter, Locator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from cockpit.plotter.theme import SMALL, width_of

Floats: TypeAlias = NDArray[np.float64]
Choice: TypeAlias = Callable[[float, float, int], Floats]

PLAIN = (1e-3, 1e5)  # sizes of numbers that are written out


def evenly(low: float, high: float, most: int) -> Floats:
    """At most about ``most`` round values from ``low`` to ``high``."""
    ticks = MaxNLocator(nbins=max(1, most - 1), steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return _within(np.array(ticks, dtype=np.float64), low, high)


def whole(low: float, high: float, most: int) -> Floats:
    """At most about ``most`` round whole numbers from ``low`` to ``high``."""
    locator = MaxNLocator(nbins=max(1, most - 1), steps=[1, 2, 5, 10], integer=True)
    ticks = np.array(locator.tick_values(low, high), dtype=np.float64)
    return _within(np.unique(ticks.round()), low, high)


def powers(low: float, high: float, most: int) -> Floats:
    """Values for a logarithmic axis from ``low`` to ``high``, both positive: powers of ten where there are enough."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 1:
        stride = math.ceil((last - first + 1) / max(1, most))
        return np.array([10.0**exponent for exponent in range(first, last + 1, stride)])
    for factors in ((1, 3), (1, 2, 5)):
        grid = np.array([factor * 10.0**power for power in range(first - 2, last + 2) for factor in factors])
        ticks = _within(grid, low, high)
        if len(ticks) >= 2:
            return ticks[:: math.ceil(len(ticks) / max(2, most))]
    return _apart(evenly(low, high, most), 0.5 / most * math.log(high / low))


def _apart(ticks: Floats, distance: float) -> Floats:
    """Those whose logarithms stand at least this far from the one before."""
    kept: list[float] = []
    for tick in ticks.tolist():
        if not kept or math.log(tick / kept[-1]) >= distance:
            kept.append(tick)
    return np.array(kept)


def _within(ticks: Floats, low: float, high: float) -> Floats:
    margin = 1e-9 * (high - low)
    kept: Floats = ticks[(ticks >= low - margin) & (ticks <= high + margin)]
    return kept


def labels(ticks: Sequence[float]) -> list[str]:
    """The ticks in words, each with as many digits as the one that needs most; a minus sign is one."""
    values = [float(tick) for tick in ticks]
    for digits in range(1, 17):
        words = [_written(value, digits) for value in values]
        if all(math.isclose(_value(word), value, rel_tol=1e-12) for word, value in zip(words, values, strict=True)):
            return [word.replace("-", "−") for word in words]
    return [repr(value).replace("-", "−") for value in values]


def counted(ticks: Sequence[float]) -> list[str]:
    """Whole numbers, every digit of them where that is not longer than with powers of ten."""
    written = [f"{round(tick):,}".replace("-", "−") for tick in ticks]
    short = labels(ticks)
    if len(set(short)) < len(set(written)):
        return written
    return min(written, short, key=lambda words: max(map(len, words), default=0))


def _written(value: float, digits: int) -> str:
    """At most ``digits`` significant digits."""
    if value == 0:
        return "0"
    if PLAIN[0] <= abs(value) < PLAIN[1]:
        before = math.floor(math.log10(abs(value))) + 1
        written = f"{value:,.{max(0, digits - before)}f}"
        return written.rstrip("0").rstrip(".") if "." in written else written
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"


def _value(word: str) -> float:
    return float(word.replace(",", ""))


class _Ticks(Locator):
    """Ticks of one axis, by one of the functions above; still right after somebody zoomed in."""

    def __init__(self, choose: Choice, most: int) -> None:
        self._choose, self._most = choose, most

    def __call__(self) -> Sequence[float]:
        assert self.axis is not None
        low, high = sorted(self.axis.get_view_interval())
        return self.tick_values(low, high)

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        ticks: list[float] = self._choose(vmin, vmax, self._most).tolist()
        return ticks


class _Labels(Formatter):
    """Words for the ticks of one axis."""

    def __init__(self, write: Callable[[Sequence[float]], list[str]]) -> None:
        self._write = write

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._write([x])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        return self._write(values)


def set_ticks(axis: Axis, choose: Choice, most: int) -> None:
    """Gives ``axis`` the ticks that ``choose`` finds: :func:`evenly`, :func:`whole` or :func:`powers`."""
    axis.set_major_locator(_Ticks(choose, most))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(_Labels(counted if choose is whole else labels))


def most_across(inches: float, low: float, high: float) -> int:
    """How many labelled whole numbers from ``low`` to ``high`` stand side by side without touching."""
    widest = max(width_of(word, SMALL) for word in counted([low, high]))
    return max(2, min(7, int(inches / (1.6 * widest + 0.1))))
