"""When instruments are read that leave it to the cockpit: as often as the budget allows.

The instruments are read at *ticks*. Cheap ones are read at every tick; dearer ones at every second, fourth, eighth …,
and never two such groups at once. Ticks are as far apart as the budget asks for, and one that would overdraw it waits
until the steps in between have earned it. Nothing is known at first, so the dear instruments are read once each, one
after the other, before that begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cockpit.tracking.costs import INDIVIDUAL, LOG_BEGINS, MOST_BELIEVED, Costs, Part
from cockpit.tracking.plan import Job, Plan, cost_by_job, cost_of, make_plan
from cockpit.tracking.yardstick import Yardstick

LONGEST_STREAK = 7
"""Tracked steps in a row: one step in eight is the yardstick."""

_PAUSE = 4  # steps between the first readings
_ADVANCE = 250  # steps whose earnings the first readings may spend before they are earned
_AIM, _LEAST = 0.9, 0.3  # of the budget is planned for: what is left keeps ticks regular while measurements vary

_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Work:
    """What was done in a tracked step.

    Args:
        begun: Jobs of the budget that began with it.
        parts: What the budget's jobs made it do.
        fixed: What instruments with a schedule of their own made it do.
        timed: Seconds of the parts that have a clock of their own.
    """

    begun: frozenset[str]
    parts: frozenset[Part]
    fixed: frozenset[Part]
    timed: Mapping[Part, float]


@dataclass(frozen=True)
class _Turn:
    """Jobs that may be run next.

    Args:
        kind: For the first time, again because the first time told little, or as planned.
        names: The jobs.
        after: Steps that lie between them and what began before, at least.
        price: What they cost, in plain steps.
        streak: How many steps in a row they look at.
    """

    kind: Literal["open", "again", "tick"]
    names: frozenset[str]
    after: int
    price: float
    streak: int


class Budget:
    """Decides before each step what is read, and keeps account of what was spent.

    All amounts are in plain steps: a budget of 0.1 earns a tenth of a step with every step.

    Args:
        jobs: The instruments that are spaced.
        share: Extra time allowed, as a share of the plain time.
    """

    def __init__(self, jobs: Iterable[Job], share: float) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._share = self._left = share  # allowed, and what leaving steps alone leaves of it
        self._costs = Costs(Yardstick())
        self._idle = 0.0  # what it costs a step to be left alone, in plain steps
        self._unopened, self._unsure = _opening(self._jobs.values()), _first_readings(self._jobs.values())
        self._opened: set[str] = set()
        self._turns: list[_Turn] = []
        self._idle_until = 0
        self._chosen = _Turn("tick", _NOBODY, 0, 0.0, 0)
        self._first_runs: list[Work] = []
        self._waiting: list[tuple[float, Work, float]] = []
        self._charged = self._spent = self._extra = 0.0
        self._compared = self._alone = 0
        self._steps = self._tick = 0
        self._since = _PAUSE  # steps since something began
        self._streak = self._rest = 0
        self.plan: Plan | None = None

    @property
    def spent(self) -> float:
        """Extra time so far, in plain steps. First runs are charged what later ones cost."""
        return self._spent

    def overhead(self) -> float | None:
        """Extra time over plain time so far, of all instruments; ``None`` before there is anything to compare.

        Steps that do something for the first time are left out: they compile loops, find the batch axis and touch
        memory first, which is not done again.
        """
        measured = self._compared - self._alone
        if not measured or not self._costs.yardstick.bare:
            return None
        return (self._extra + self._idle * self._alone) / self._compared

    def costs(self) -> dict[str, float]:
        """What each job costs a time, in plain steps; a part that several need is shared out among them."""
        return cost_by_job(self._jobs.values(), self._costs)

    @property
    def settled(self) -> bool:
        """Whether every instrument has been read and measured, so that the plan can be relied on."""
        return self.plan is not None and not self._unopened and not self._unsure

    def due(self) -> frozenset[str]:
        """Jobs that begin with the next step. Asking again changes nothing until the step is over."""
        if self._steps < self._idle_until or not self._jobs or self._rest > 0 or self._waiting:
            return _NOBODY
        if not self._turns:
            self._turns = self._in_turn()
            self._idle_until = min((self._earliest(turn) for turn in self._turns), default=0)
        for turn in self._turns:
            if self._since >= turn.after and self._spent + turn.price <= self._limit():
                self._chosen = turn
                return turn.names if self._streak + turn.streak <= LONGEST_STREAK else _NOBODY
        return _NOBODY

    def _in_turn(self) -> list[_Turn]:
        """What may come next, the most urgent first; of it the first that can be afforded does."""
        if self._unopened:
            return [self._turn("open", self._unopened[0], _PAUSE)]
        again = [self._doubtful(names) for names in self._unsure[:1]]
        turns = [self._turn("again", names, _PAUSE) for names in again if names]
        if self.plan is not None:
            turns.append(self._turn("tick", self.plan.at(self._tick + 1), self.plan.interval - 1))
        return turns

    def _turn(self, kind: Literal["open", "again", "tick"], names: frozenset[str], after: int) -> _Turn:
        jobs = [self._jobs[name] for name in names]
        price = cost_of(jobs, self._costs) if kind != "open" else 0.0 if self._opened else -math.inf
        return _Turn(kind, names, after, price, max(min(job.window, LONGEST_STREAK) for job in jobs))

    def _earliest(self, turn: _Turn) -> int:
        """No step before this one can be the turn's: to look for it then would cost every step its time."""
        rested = self._steps + turn.after - self._since
        earned = (self._spent + turn.price) / self._left - 1
        if earned < 2 * _ADVANCE:
            earned = 2 * (earned - _ADVANCE)
        return max(rested, math.floor(earned)) if math.isfinite(earned) else rested

    def _limit(self) -> float:
        """What may be spent by the end of the next step. An advance on the first readings is paid back by step 500."""
        return self._left * (self._steps + 1 + max(0.0, _ADVANCE - self._steps / 2))

    def untracked(self, seconds: float | None) -> None:
        """A step that was left alone; ``None`` if it was not timed."""
        if seconds is not None:
            self._costs.yardstick.alone(seconds)
        self._alone += 1
        self._compared += 1
        self._passed()
        self._catch_up()

    def tracked(self, seconds: float, work: Work, background: float = 0.0, idle: float = 0.0) -> None:
        """A tracked step is over.

        Args:
            seconds: How long it took, with what was done for it afterwards.
            work: What was done.
            background: Seconds that the log's thread has worked so far.
            idle: Seconds that the cockpit has spent so far on steps that it left alone.
        """
        self._costs.yardstick.tracked(seconds, fixed=not work.parts)
        self._waiting.append((seconds, work, background))
        self._charge_idleness(idle)
        if work.parts:
            self._streak += 1
            self._rest = -(-self._streak // LONGEST_STREAK) if self._streak >= LONGEST_STREAK else 0
            self._steps += 1
            self._since += 1
            if work.begun:
                self._begun()
        else:
            self._passed()
        self._catch_up()

    def _charge_idleness(self, idle: float) -> None:
        """Leaving steps alone costs what it costs, whatever is read; however dear it is, half of the budget stays."""
        plain = self._costs.yardstick.seconds()
        if plain and self._alone:
            self._idle = idle / (self._alone * plain)
            self._left = max(self._share / 2, self._share - self._idle)

    def given_up(self) -> None:
        """What was due could not even begin: it had its turn."""
        if self._chosen.names:
            self._begun()

    def _passed(self) -> None:
        """A step that was no matter of the budget's."""
        self._steps += 1
        self._since += 1
        self._streak, self._rest = 0, max(0, self._rest - 1)

    def _begun(self) -> None:
        """What was chosen has been done."""
        self._since = 0
        self._turns, self._idle_until = [], 0
        if self._chosen.kind == "open":
            self._unopened.pop(0)
            self._opened |= self._chosen.names
        elif self._chosen.kind == "again":
            self._unsure.pop(0)
        else:
            self._tick += 1

    def _catch_up(self) -> None:
        """Accounts for what was done, as soon as there is a yardstick."""
        if not self._waiting or not (plain := self._costs.yardstick.seconds()):
            return
        if not self._charged and self._jobs:
            self._charged = LOG_BEGINS / plain
        for seconds, work, background in self._waiting:
            self._account(seconds, work, background)
        self._waiting.clear()
        self._spent = self._charged + sum(self._believed(work) for work in self._first_runs)
        self._turns, self._idle_until = [], 0
        self._unsure = [names for names in self._unsure if not self._opened >= names or self._doubtful(names)]
        if self._opened:
            opened = [job for name, job in self._jobs.items() if name in self._opened]
            self.plan = make_plan(opened, self._costs, self._to_spend(), self.plan)

    def _to_spend(self) -> float:
        """On a step, so that the ticks stay regular while an advance is paid back."""
        owed = max(0.0, self._spent - self._left * self._steps)
        return max(_LEAST * self._left, _AIM * self._left - owed / (2 * _ADVANCE))

    def _doubtful(self, names: frozenset[str]) -> frozenset[str]:
        return frozenset(name for name in names if self._costs.doubtful(self._jobs[name].parts))

    def _account(self, seconds: float, work: Work, background: float) -> None:
        parts = self._all(work)
        if not parts:
            return
        if self._costs.add(seconds, parts, work.timed, background):
            self._first_runs.append(work)
            return
        whole, charge = self._costs.of(parts), self._costs.charge(seconds, parts)
        self._extra += charge
        self._compared += 1
        if whole > 0:
            self._charged += charge * self._own(work) / whole

    def _all(self, work: Work) -> frozenset[Part]:
        """What the step did that a step of the yardstick does not."""
        return work.parts | work.fixed if self._costs.yardstick.bare else work.parts - work.fixed

    def _believed(self, work: Work) -> float:
        """What a first run cost: what later ones do or, before there are any, not more than can be true."""
        own = self._own(work)
        return min(own, MOST_BELIEVED) if self._costs.doubtful(work.parts) else own

    def _own(self, work: Work) -> float:
        """What the budget's jobs added to a step, in plain steps."""
        before = self._costs.of(work.fixed) if self._costs.yardstick.bare else 0.0
        return self._costs.of(self._all(work)) - before


def _first_readings(jobs: Iterable[Job]) -> list[frozenset[str]]:
    """Which jobs are read together for the first time: all light ones, then the others one by one.

    Those come along that need nothing more.
    """
    groups, left = [], list(jobs)
    while left:
        first = [job for job in left if job.light] or left[:1]
        parts = frozenset(part for job in first for part in job.parts)
        groups.append([job for job in left if job in first or job.parts - {job.name} <= parts])
        left = [job for job in left if job not in groups[-1]]
    return [frozenset(job.name for job in group) for group in groups]


def _opening(jobs: Iterable[Job]) -> list[frozenset[str]]:
    """The first readings; and, after the very first, one that tells what a step costs without individual gradients."""
    groups = _first_readings(jobs)
    cheap = frozenset(job.name for job in jobs if INDIVIDUAL not in job.parts)
    bare = [cheap & names for names in groups[:1] if cheap & names not in (_NOBODY, names)]
    return [*groups[:1], *bare, *groups[1:]]
