"""A machine with a clock of its own: trains without training, and says what each step took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from cockpit.tracking.budget import Budget, Work
from cockpit.tracking.costs import INDIVIDUAL, MOVEMENT, STEP
from cockpit.tracking.plan import Job

SECONDS = {
    STEP: 0.05,
    INDIVIDUAL: 0.3,
    MOVEMENT: 0.02,
    "norms": 0.01,
    "moments": 0.1,
    "elements": 0.4,
    "slopes": 0.15,
    "curvature": 3.0,
    "eigenvalues": 8.0,
}
"""What each part takes, where a plain step takes 1."""

LOSS = Job("loss", frozenset({STEP, "loss"}))
NORM = Job("norm", frozenset({STEP, "norms", "norm"}))
TEST = Job("test", frozenset({STEP, INDIVIDUAL, "moments", "test"}))
HISTOGRAM = Job("histogram", frozenset({STEP, INDIVIDUAL, "elements", "histogram"}))
ALPHA = Job("alpha", frozenset({STEP, INDIVIDUAL, MOVEMENT, "slopes", "alpha"}), window=2)
ECONOMY = (LOSS, NORM, TEST, HISTOGRAM, ALPHA)
TRACE = Job("trace", frozenset({STEP, "curvature", "trace"}), light=False)
RATIO = Job("ratio", frozenset({STEP, "curvature", "ratio"}), light=False)
TOP = Job("top", frozenset({STEP, "eigenvalues", "top"}), light=False)
FULL = (*ECONOMY, TRACE, RATIO, TOP)


@dataclass
class Machine:
    """Trains and keeps count.

    Args:
        jobs: What leaves it to the budget.
        share: The budget.
        plain: Seconds of a plain step, by its number.
        seconds: Of each part.
        noise: Relative standard deviation of a step's length.
        spikes: Share of the steps that take a hundred times longer.
        once: Seconds that a part takes in addition when it is run for the first time.
        idle: What leaving a step alone takes.
        log: Seconds that the log's thread has worked, by step.
        fixed: Parts that instruments with a schedule of their own need, by step.
    """

    jobs: Iterable[Job] = ECONOMY
    share: float = 0.1
    plain: Callable[[int], float] = lambda step: 1.0
    seconds: Mapping[str, float] = field(default_factory=lambda: SECONDS)
    noise: float = 0.0
    spikes: float = 0.0
    once: float = 0.0
    fixed: Callable[[int], frozenset] = lambda step: frozenset()
    idle: float = 0.0
    log: Callable[[int], float] = lambda step: 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.jobs = tuple(self.jobs)
        self.budget = Budget(self.jobs, self.share)
        self.extra = self.base = self.idled = 0.0
        self.begun: list[frozenset[str]] = []
        self.parts: list[frozenset] = []
        self.random = np.random.default_rng(self.seed)
        self._open: list[list] = []
        self._seen: set = set()

    def run(self, steps: int) -> Machine:
        for _ in range(steps):
            self._step(len(self.begun))
        return self

    def _step(self, index: int) -> None:
        due = self.budget.due()
        self.begun.append(due)
        self._open += [[job, job.window] for job in self.jobs if job.name in due]
        parts = frozenset(part for job, left in self._open for part in job.parts_of(job.window - left))
        fixed = self.fixed(index)
        self.parts.append(parts)
        plain = self.plain(index) * (1 + self.noise * float(self.random.standard_normal()))
        plain *= 100 if self.random.random() < self.spikes else 1
        self.base += plain
        if not parts | fixed:
            self.budget.untracked(plain)
            self.idled += self.idle * self.plain(index)
            return
        timed = {part: self.plain(index) * self.seconds.get(part, 0.0) for part in parts | fixed}
        self.extra += sum(timed[part] for part in parts - fixed)
        first = self.once * sum(part not in self._seen for part in timed if part not in (STEP, INDIVIDUAL))
        self._seen |= set(timed)
        total = plain + sum(timed.values()) + first
        for part in (STEP, INDIVIDUAL):
            timed.pop(part, None)
        self.budget.tracked(total, Work(due, parts, fixed, timed), self.log(index), self.idled)
        for entry in self._open:
            entry[1] -= 1
        self._open = [entry for entry in self._open if entry[1] > 0]

    @property
    def slowdown(self) -> float:
        """Extra time over plain time, without what happens once."""
        return (self.extra + self.idled + self.log(len(self.begun))) / self.base

    def steps_of(self, name: str) -> list[int]:
        return [index for index, due in enumerate(self.begun) if name in due]
