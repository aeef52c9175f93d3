"""Steps on the parabola they were measured on: what became of each, and the density of their normalised sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.columns import drawable
from cockpit.drawing.words import number, share
from cockpit.store import Column

REACH = 1.6  # the axis shows -REACH to REACH; what lies beyond is said in words
GRID = np.linspace(-REACH, REACH, 193)
FEWEST = 5  # steps below which points say more than a density
NARROWEST = 0.04  # kernel width
RECENT = 0.1  # share of the tracked steps that count as the last
CONCAVE, UPHILL = ".concave", ".uphill"  # companions of the key, 1 where it is so


@dataclass(frozen=True)
class Steps:
    """What became of tracked steps; each is counted once.

    Args:
        minima: The normalised sizes of those that have a minimum ahead. Shape ``[n]``.
        concave: Steps along which the loss curves down: their logged value is a convention, not a size.
        uphill: Steps that began uphill.
        missing: Steps without a value.
    """

    minima: NDArray[np.float64]
    concave: int
    uphill: int
    missing: int

    @property
    def total(self) -> int:
        """All of them."""
        return len(self.minima) + self.concave + self.uphill + self.missing


def fates_of(column: Column, columns: Mapping[str, Column]) -> NDArray[np.str_]:
    """For each point ``minimum``, ``concave``, ``uphill`` or ``missing``.

    Args:
        column: The normalised sizes.
        columns: Its companions by key, as far as they are logged.
    """
    fates = np.where(np.isfinite(drawable(column)), "minimum", "missing").astype("<U8")
    fates[column.values == -1.0] = "concave"  # by convention logged as "still going downhill"
    for name, companion in (("concave", CONCAVE), ("uphill", UPHILL)):
        flags = columns.get(column.key + companion)
        if flags is not None:
            steps = flags.steps[flags.values == 1]
            fates[np.isin(column.steps, steps) & (fates != "missing")] = name
    return fates


def recent(fates: NDArray[np.str_]) -> int:
    """How many of the points count as the last."""
    return max(1, math.ceil(RECENT * len(fates)))


def sort(column: Column, fates: NDArray[np.str_], last: int = 0) -> Steps:
    """The points (the ``last`` of them, or all) by what became of them."""
    fates, values = fates[-last:], column.values[-last:]
    counts = {name: int(np.count_nonzero(fates == name)) for name in ("concave", "uphill", "missing")}
    return Steps(values[fates == "minimum"].astype(np.float64), **counts)


def density(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian kernel density of ``values`` on :data:`GRID`, by bins of the grid's width.

    Args:
        values: Finite, at least one; what lies outside the grid lowers the density inside. Shape ``[n]``.

    Returns:
        Shape ``[len(GRID)]``.
    """
    spacing = GRID[1] - GRID[0]
    quartiles = np.percentile(values, (25, 75))
    spread = min(float(values.std()), float(quartiles[1] - quartiles[0]) / 1.34)
    width = max(0.9 * spread * len(values) ** -0.2, NARROWEST)
    edges = np.append(GRID - spacing / 2, GRID[-1] + spacing / 2)
    counts, _ = np.histogram(values, edges)
    kernel = np.exp(-0.5 * ((GRID[:, None] - GRID[None, :]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    result: NDArray[np.float64] = kernel @ counts / len(values)
    return result


def densities(everything: Steps, last: Steps) -> dict[str, NDArray[np.float64]]:
    """The densities ``all`` and ``last`` on :data:`GRID`, to one scale whose top is 1; without those of few steps."""
    groups = {"all": everything.minima, "last": last.minima}
    curves = {name: density(minima) for name, minima in groups.items() if len(minima) >= FEWEST}
    top = max((float(curve.max()) for curve in curves.values()), default=0.0) or 1.0
    return {name: curve / top for name, curve in curves.items()}


def words_of(steps: Steps, label: str, reach: float = REACH) -> str:
    """What the density leaves out, and its middle; the axis shows ``-reach`` to ``reach``."""
    if steps.total == 0:
        return ""
    counts = {fate: getattr(steps, fate) for fate in ("concave", "uphill", "missing")}
    parts = [f"{share(count, steps.total)} {fate}" for fate, count in counts.items() if count]
    parts = parts or ["none concave, uphill or missing"]
    beyond = int(np.count_nonzero(np.abs(steps.minima) > reach))
    if beyond:
        parts.append(f"{share(beyond, steps.total)} beyond {number(reach)}")
    middle = f"median {number(float(np.median(steps.minima)))}, " if len(steps.minima) else ""
    return f"{label.format(f'{steps.total:,}')}: {middle}{', '.join(parts)}."
