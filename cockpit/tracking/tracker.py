"""The order of events in a step; nothing else knows it.

Entering settles the step before, asks who looks at this one, and installs hooks if somebody does. Leaving takes them
off; what was captured is read as soon as the optimizers have stepped, in the block or after it, and logged.
"""

from __future__ import annotations

import atexit
import functools
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from torch.utils.hooks import RemovableHandle

from cockpit.capture.individual.backpack import batch_gradients
from cockpit.capture.individual.workspace import Workspace
from cockpit.capture.samples.layout import Layouts
from cockpit.instrument import Instrument
from cockpit.parameters import Movement
from cockpit.probes.handed_diagonal import HandedDiagonal
from cockpit.probes.probe import Probe, Surroundings
from cockpit.schedule import Auto, Schedule
from cockpit.sinks.feed import Feeds
from cockpit.tracking.bookkeeping import Bookkeeping
from cockpit.tracking.clock import WEIGHED, Clock
from cockpit.tracking.notices import Notices
from cockpit.tracking.open_step import OpenStep
from cockpit.tracking.places import PROGRESS, OpenedLog
from cockpit.tracking.start import keep_or_recall
from cockpit.tracking.watched import Watched
from cockpit.tracking.windows import Windows


class Tracker:
    """Takes a run through its steps.

    Args:
        watched: What is watched.
        instruments: What is read.
        schedule: When, unless they say so themselves.
        share: How much slower training may be for what is read as often as that allows.
        wanted: What the user asked for, where it has a name.
        log: The run's log.
        feeds: Pass it on to other tools.

    Attributes:
        closed: Whether the run has ended.
        workspace: Scratch memory, the same in all steps.
        memory: What probes remember from step to step, by probe.
        hands_over: Whether an instrument hands the diagonal of a curvature matrix over to the training.
    """

    _inside = False  # a step
    _previous: Movement | None = None  # what the parameters moved by in the step before
    _unsettled: OpenStep | None = None  # a step whose optimizers are still to come
    _leftover: Sequence[RemovableHandle] = ()

    def __init__(
        self,
        watched: Watched,
        instruments: Sequence[Instrument],
        schedule: Schedule | Auto,
        share: float,
        wanted: str,
        log: OpenedLog,
        feeds: Feeds,
    ) -> None:
        self.watched, self._writer, self._place, self._feeds = watched, log.writer, log.place, feeds
        self._index = log.next_step
        self._began = time.monotonic() - log.seconds
        if watched.displacement is not None:
            keep_or_recall(log, watched.table, watched.displacement)
        self._notices = Notices(self._writer, self.seconds, aloud=log.job.leads)
        self._windows = Windows(instruments, schedule, share, self._notices)
        self._budget, self._clock = self._windows.budget, Clock(watched.table[0].tensor.device)
        self._layouts, self.workspace = Layouts(), Workspace()
        self.memory: dict[Probe[Any], Any] = {}
        probes = (probe for instrument in instruments for probe in instrument.probes())
        self.hands_over = any(isinstance(probe, HandedDiagonal) for probe in probes)
        self._books = Bookkeeping(log, self._budget, instruments, schedule, wanted)
        self.closed = False
        self._at_exit = functools.partial(_interrupt, weakref.ref(self))
        atexit.register(self._at_exit)  # runs before the writer's own, which is older

    def begin(self) -> None:
        """Says what is to be said before the first step. Where warnings are errors, that ends the run."""
        self._feeds.start(self._writer, self._began, self._at_exit)
        self._notices.unheld(self.watched.table)
        try:
            self._notices.tell()
        except BaseException:  # a warning that the user has made an error
            self.close("crashed")
            raise

    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    def overhead(self) -> float | None:
        """Extra time over plain time so far; ``None`` before there is a yardstick."""
        return self._budget.overhead()

    def logged(self, names: Iterable[str]) -> None:
        """Told of the user's own metrics, whose names tell an evaluation."""
        self._books.tell_evaluation(self.latest, self.seconds(), names)

    @property
    def latest(self) -> int:
        """Number of the step that is open, or else of the one before."""
        return self._index if self._inside else max(0, self._index - 1)

    def require_open(self) -> None:
        """Raises a RuntimeError once the run has ended."""
        if self.closed:
            raise RuntimeError(f"the cockpit of {self._place} is closed; make a new one to go on")

    def close(self, state: str) -> None:
        """Ends the run; a second call does nothing.

        Args:
            state: How.
        """
        if self.closed:
            return
        self.closed = True
        self._settle()
        self._windows.forget()
        self.workspace.clear()
        self.memory.clear()
        self._writer.document(PROGRESS, {"steps": self._index, "seconds": self.seconds()})
        self._writer.close(state)
        self._feeds.close()
        atexit.unregister(self._at_exit)
        if state == "finished":  # else something of more weight is on its way to the user
            self._notices.tell()

    def enter_at(self, index: int) -> OpenStep | None:
        """As :meth:`enter`. Where the number does not follow the last, nothing reaches over the gap."""
        self.require_open()
        if index != self._index:
            self._settle()
            self._windows.forget()
            self._previous, self._index = None, index
        return self.enter()

    def enter(self) -> OpenStep | None:
        """Begins a step; ``None`` if nothing looks at it."""
        self.require_open()
        if self._inside:
            raise RuntimeError(
                f"step {self._index} is still open: a step is one optimizer update, and steps do not nest; "
                "several backward passes may share one"
            )
        self._settle()
        self._clock.begin()
        step = self._opened()
        if step is None and self._index % WEIGHED == 0:
            self._clock.leave_alone()
        self._inside = True
        return step

    def _opened(self) -> OpenStep | None:
        audience = self._windows.begin(self._index)
        if not audience:
            return None
        self._clock.track()
        watched = self.watched
        surroundings = Surroundings(
            watched.table,
            self.workspace,
            watched.displacement,
            previous=self._previous if audience.looks_back() else None,
            begins_window=audience.looks_ahead(),
            checked=audience.roster.checked,
            index=self._index,
            memory=self.memory,
            backpack=watched.source is batch_gradients,
        )
        try:
            step = OpenStep(
                self._index,
                watched.model,
                watched.optimizers,
                audience,
                surroundings,
                self._layouts,
                self._failed,
                watched.source,
            )
            step.open()
        except BaseException as error:
            self._windows.forget()
            if not isinstance(error, Exception):
                raise
            self._failed(error)
            self._budget.given_up()
            return None
        return step

    def leave(self, step: OpenStep | None, failed: bool) -> None:
        """Ends the user's block. Where the optimizer steps later, the reading waits for it."""
        self._inside = False
        if failed or self.closed:
            # Neither counted nor logged: what was captured may be half of a step.
            self._windows.forget()
            if step is not None:
                step.abandon()
            return
        self._index += 1
        if step is None:
            self._previous = None
            self._budget.untracked(self._clock.elapsed())
        else:
            self._conclude(step)
        if self._books.plan is not self._budget.plan:
            self._books.tell_plan(self._index - 1, self.seconds())
        self._notices.tell()
        if self._clock.weighing:
            self._clock.left_alone()

    def _conclude(self, step: OpenStep) -> None:
        try:
            step.leave()
            if step.optimizer_stepped:
                step.detach()
                self._finish(step)
            else:
                self._unsettled, step.took = step, self._clock.elapsed() or 0.0
                step.when_all_optimizers_stepped(self._optimizers_stepped)
        except BaseException:  # Ctrl-C in the cockpit's own work
            self._windows.forget()
            step.detach()
            raise

    def _optimizers_stepped(self) -> None:
        """All optimizers stepped after the block. Their hooks are running, so they are removed later."""
        if self._unsettled is not None:
            self._leftover = self._unsettled.disarm()
        self._finish_unsettled()

    def _settle(self) -> None:
        """Ends a step whose optimizers stepped after the block, or not at all."""
        for handle in self._leftover:
            handle.remove()
        self._leftover = ()
        if self._unsettled is not None:
            self._unsettled.detach()
        self._finish_unsettled()

    def _finish_unsettled(self) -> None:
        step, self._unsettled = self._unsettled, None
        if step is not None:
            self._clock.begin()
            self._finish(step)

    def _finish(self, step: OpenStep) -> None:
        """Everything is known: compute the instruments whose window is complete, and log."""
        try:
            done = step.settle(self.seconds())
            self._previous = step.movement
            readings = self._windows.add(done)
            if readings:
                rates = step.learning_rates()
                readings.setdefault(done.index, {}).update(self._books.readings(done, rates))
                self._books.tell_rates(done, rates)
            for index, by_name in readings.items():
                self._writer.put(index, done.time, by_name)
            self._books.announce(step)
            self._notices.joined(step.index, self.watched.newcomers())
        except BaseException as error:
            self._windows.forget()
            if not isinstance(error, Exception):
                raise
            self._notices.failed(step.index, "the capture", error)
        taken = step.took + (self._clock.elapsed() or 0.0)
        work = step.audience.work({**step.seconds(), **self._windows.seconds})
        self._budget.tracked(taken, work, self._writer.seconds + self._feeds.seconds, self._clock.idle)

    def _failed(self, error: Exception) -> None:
        self._notices.failed(self._index, "the capture", error)


def _interrupt(reference: weakref.ref[Tracker]) -> None:
    """The interpreter ends with the run still open: its last step may still wait for its optimizer."""
    tracker = reference()
    if tracker is not None:
        tracker.close("interrupted")
