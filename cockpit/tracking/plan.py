"""How far apart instruments are read, so that all of them together cost what they may."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cockpit.tracking.costs import Costs, Part

_HIGHEST = 10  # level: read at every 1024th tick
_FREE = 0.01  # plain steps; below that, one instrument is as cheap as another
_KEPT_LEVEL = 0.75
_KEPT_INTERVAL = (0.75, 1.1)
"""How far from its ideal a plan may be before it is changed: numbers that change at every reading tell nobody much."""


@dataclass(frozen=True)
class Job:
    """An instrument, as the budget sees it.

    Args:
        name: Its log key.
        parts: What it makes a step do.
        window: How many consecutive steps it looks at.
        light: Whether it may be read at the very first step, together with others.
        later: What it makes the further steps of its window do; the same if not given.
    """

    name: str
    parts: frozenset[Part]
    window: int = 1
    light: bool = True
    later: frozenset[Part] | None = None

    def parts_of(self, nth: int) -> frozenset[Part]:
        """What it makes a step of its window do, the first of which is 0."""
        return self.parts if nth == 0 or self.later is None else self.later


@dataclass(frozen=True)
class Plan:
    """How often each job runs.

    Args:
        interval: Steps from tick to tick.
        levels: By job: it runs at every ``2 ** level``-th tick.
        cost: Of all this, in plain steps for each step.
    """

    interval: int
    levels: Mapping[str, int]
    cost: float

    def intervals(self) -> dict[str, int]:
        """Steps from one reading to the next, by job."""
        return {name: self.interval << level for name, level in self.levels.items()}

    def at(self, tick: int) -> frozenset[str]:
        """Jobs that run at a tick, counted from 1: those of level 0, and those of one level more."""
        level = (tick & -tick).bit_length()
        return frozenset(name for name, own in self.levels.items() if own in (0, level))


def make_plan(jobs: Sequence[Job], costs: Costs, share: float, before: Plan | None = None) -> Plan:
    """The plan that spends what it is given.

    A job's level goes by the square root of its cost: of all intervals that cost the same these have the smallest sum.

    Args:
        jobs: What is to be run, at least one.
        costs: What parts of a step cost.
        share: What may be spent on a step, in plain steps.
        before: The plan so far; it is kept where it is near enough.
    """
    levels = _levels(jobs, costs, {} if before is None else before.levels)
    cost = _cost_of_a_tick(jobs, levels, costs)
    interval, (least, most) = max(1, math.ceil(cost / share)), _KEPT_INTERVAL
    if before is not None and least <= max(1.0, cost / share) / before.interval <= most:
        interval = before.interval
    while any(levels.values()):  # ticks are whole steps apart: what that leaves is for the dear ones
        more = {name: max(0, level - 1) for name, level in levels.items()}
        if _cost_of_a_tick(jobs, more, costs) > share * interval:
            break
        levels, cost = more, _cost_of_a_tick(jobs, more, costs)
    return Plan(interval, levels, cost / interval)


def cost_of(jobs: Iterable[Job], costs: Costs) -> float:
    """What it costs to begin these jobs with a step, the steps that follow in their windows included."""
    jobs = list(jobs)
    last = max((job.window for job in jobs), default=0)
    return sum(costs.of(_parts((job for job in jobs if job.window > nth), nth)) for nth in range(last))


def cost_by_job(jobs: Iterable[Job], costs: Costs) -> dict[str, float]:
    """What each job costs a time; a part that several need is shared out among them."""
    jobs = list(jobs)
    by_job = dict.fromkeys((job.name for job in jobs), 0.0)
    for nth in range(max((job.window for job in jobs), default=0)):
        looking = [job for job in jobs if job.window > nth]
        needed = Counter(part for job in looking for part in job.parts_of(nth))
        for job in looking:
            by_job[job.name] += sum(costs.share(part) / needed[part] for part in job.parts_of(nth))
    return by_job


def _levels(jobs: Sequence[Job], costs: Costs, before: Mapping[str, int]) -> dict[str, int]:
    by_job = {name: max(_FREE, cost) for name, cost in cost_by_job(jobs, costs).items()}
    cheapest = min(by_job.values())
    levels = {}
    for name, cost in by_job.items():
        ideal = min(_HIGHEST, math.log2(cost / cheapest) / 2)
        kept = name in before and abs(before[name] - ideal) <= _KEPT_LEVEL
        levels[name] = before[name] if kept else round(ideal)
    lowest = min(levels.values())
    return {name: level - lowest for name, level in levels.items()}


def _cost_of_a_tick(jobs: Sequence[Job], levels: Mapping[str, int], costs: Costs) -> float:
    """On average: half of the ticks are of level 1, a quarter of level 2 and so on."""
    basis = [job for job in jobs if levels[job.name] == 0]
    cost, left = 0.0, 1.0
    for level in range(1, max(levels.values()) + 1):
        left /= 2
        cost += left * cost_of([*basis, *(job for job in jobs if levels[job.name] == level)], costs)
    return cost + left * cost_of(basis, costs)


def _parts(jobs: Iterable[Job], nth: int) -> frozenset[Part]:
    return frozenset(part for job in jobs for part in job.parts_of(nth))
