"""The cockpit: the only file that knows the order of events in a step."""

from __future__ import annotations

import atexit
import functools
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from cockpit.capture.backpack import batch_gradients
from cockpit.capture.layout import Layouts
from cockpit.capture.workspace import Workspace
from cockpit.clash import check_for_clash
from cockpit.instrument import Instrument, resolve
from cockpit.json_log import output_of, write_json
from cockpit.parameters import Displacement, ParameterTable
from cockpit.probes.probe import Probe, Surroundings
from cockpit.run import load_run
from cockpit.schedule import Schedule, as_schedule
from cockpit.tracking.arguments import (
    STATES,
    checked_backend,
    checked_budget,
    checked_config,
    checked_model,
    checked_optimizers,
    checked_scalars,
    checked_tags,
    state_after,
    turned_off,
)
from cockpit.tracking.bookkeeping import KEYS, PLAN_KEYS, Bookkeeping
from cockpit.tracking.clock import WEIGHED, Clock
from cockpit.tracking.description import describe_run
from cockpit.tracking.dispatch import Dispatched
from cockpit.tracking.notices import Notices
from cockpit.tracking.open_step import OpenStep
from cockpit.tracking.places import PROGRESS, open_log
from cockpit.tracking.step_context import StepContext
from cockpit.tracking.windows import Windows

check_for_clash()


class Cockpit(Dispatched):
    """Watches a training loop: wrap each optimizer update in :meth:`step`.

    Args:
        model: The model; ``nn.DataParallel`` is refused.
        optimizer: Its optimizer, or a list of them.
        loss_fn: Not needed: losses of ``torch.nn`` and ``torch.nn.functional`` are recognised wherever they are called
            inside a step. Others are handed over with ``step.losses``.
        instruments: ``"economy"``, ``"economy+hess_trace"``, or a list of names, classes and objects.
        track: When instruments are read, unless they say so themselves: ``"auto"``, as often as the budget allows; an
            interval, ``every(…)``, ``log_spaced(…)`` or a function from step to bool, whatever it costs.
        budget: How much slower training may be for what is read by ``"auto"``, as a share of its time without: 0.1 is
            ten percent.
        run: Directory of the log; ``runs/<script>-<time>`` if not given. A finished run's name gets a suffix.
        config: Hyperparameters to keep with the run.
        tags: Words to find the run by.
        resume: Whether to continue the run that is in ``run``.
        enabled: ``False`` turns everything off, as does the environment variable ``COCKPIT_DISABLE=1``.
        backend: What computes individual gradients and the diagonals of curvature matrices: the cockpit itself, or
            ``"backpack"``, which knows fewer layers and holds all samples' gradients of a parameter at once.

    Raises:
        TypeError: For a model or an optimizer of another kind, or a budget that is no number.
        ValueError: For unknown or no instruments, a budget that is not positive and finite, or a model without
            trainable parameters that the optimizer holds.
        RunIsLive: If another process or cockpit writes this run.
        OSError: If the log cannot be written.
    """

    run: Path | None = None
    """Directory of the log; ``None`` where the cockpit is turned off."""

    _closed = False
    _inside = False  # a step
    _previous: Sequence[Tensor] | None = None  # what the parameters moved by in the step before
    _unsettled: OpenStep | None = None  # a step whose optimizers are still to come
    _leftover: Sequence[RemovableHandle] = ()

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        loss_fn: object = None,
        *,
        instruments: str | Instrument | type[Instrument] | Iterable[str | Instrument | type[Instrument]] = "economy",
        track: int | Literal["auto"] | Schedule = "auto",
        budget: float = 0.1,
        run: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
        tags: str | Iterable[str] = (),
        resume: bool = False,
        enabled: bool = True,
        backend: str = "cockpit",
    ) -> None:
        self.enabled = enabled and not turned_off()
        if not self.enabled:
            return
        self._model, self._optimizers = checked_model(model), checked_optimizers(optimizer)
        watching = resolve(instruments)
        schedule, share = as_schedule(track), checked_budget(budget)
        self._source = checked_backend(backend)
        self._table = self._watched()
        moves = any(probe.movement for instrument in watching for probe in instrument.probes())
        self._displacement = Displacement(self._table) if moves else None
        self._own_keys = (*(instrument.name for instrument in watching), *KEYS, *PLAN_KEYS)
        header = describe_run(
            model, self._table, self._optimizers, watching, schedule, checked_config(config), checked_tags(tags)
        )
        log = open_log(run, header, resume)
        self._writer, self.run = log.writer, log.place
        self._index = log.next_step
        self._began = time.monotonic() - log.seconds
        if log.next_step > 0 and self._displacement is not None:
            self._displacement.resumed()
        self._notices = Notices(self._writer, self._seconds)
        self._windows = Windows(watching, schedule, share, self._notices)
        self._budget, self._clock = self._windows.budget, Clock(self._table[0].tensor.device)
        self._layouts, self._workspace = Layouts(), Workspace()
        self._memory: dict[Probe[Any], Any] = {}
        self._books = Bookkeeping(
            log, self._budget, watching, schedule, instruments if isinstance(instruments, str) else ""
        )
        self._at_exit = functools.partial(_interrupt, weakref.ref(self))
        atexit.register(self._at_exit)  # runs before the writer's own, which is older
        self._notices.unheld(self._table)
        try:
            self._notices.tell()
        except BaseException:  # a warning that the user has made an error
            self.close("crashed")
            raise

    def _watched(self) -> ParameterTable:
        return ParameterTable(self._model, self._optimizers)

    @property
    def overhead(self) -> float | None:
        """Extra time over plain time so far, 0.1 is ten percent; ``None`` before there is a yardstick."""
        return self._budget.overhead() if self.enabled else None

    def step(self) -> StepContext:
        """One optimizer update, however many backward passes: ``with cockpit.step(): …``.

        Raises:
            RuntimeError: On entering, if a step is already open, or the cockpit is closed.
        """
        return StepContext(self._enter, self._leave) if self.enabled else StepContext()

    def log(self, values: Mapping[str, float | Tensor | None]) -> None:
        """Logs scalars of the user's own under the number of the latest step.

        Args:
            values: By name, such as ``valid/accuracy``. Numbers, or tensors and arrays with one element; ``None`` where
                a value is undefined.

        Raises:
            TypeError: For a value that is no number.
            ValueError: For a name that an instrument logs under.
            RuntimeError: If the cockpit is closed.
        """
        if not self.enabled:
            return
        self._require_running()
        index = self._index if self._inside else max(0, self._index - 1)
        self._writer.scalars(index, self._seconds(), checked_scalars(values, self._own_keys))

    def flush(self) -> None:
        """Waits until what was read so far is in the log, five seconds at most."""
        if self.enabled:
            self._writer.flush()

    def write(self, logpath: str | Path) -> None:
        """Writes what was read so far as the JSON that f-dangel/cockpit's plotter reads.

        Args:
            logpath: The file, without its ending ``.json``.
        """
        if self.run is not None:
            self.flush()
            write_json(output_of(load_run(self.run)), logpath)

    def close(self, state: str = "finished") -> None:
        """Ends the run and its log; a second call does nothing.

        Args:
            state: ``finished``, ``interrupted`` or ``crashed``.

        Raises:
            ValueError: For another state.
        """
        if state not in STATES:
            raise ValueError(f"a run ends as one of {', '.join(STATES)}, not as {state!r}")
        if not self.enabled or self._closed:
            return
        self._closed = True
        self._settle()
        self._windows.forget()
        self._workspace.clear()
        self._memory.clear()
        self._writer.document(PROGRESS, {"steps": self._index, "seconds": self._seconds()})
        self._writer.close(state)
        atexit.unregister(self._at_exit)
        if state == "finished":  # else something of more weight is on its way to the user
            self._notices.tell()

    def __enter__(self) -> Cockpit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(state_after(error))

    # The order of events in a step, from here on.

    def _enter(self) -> OpenStep | None:
        """Begins a step; ``None`` if nothing looks at it."""
        self._require_running()
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
        surroundings = Surroundings(
            self._table,
            self._workspace,
            self._displacement,
            previous=self._previous if audience.looks_back() else None,
            begins_window=audience.looks_ahead(),
            index=self._index,
            memory=self._memory,
            backpack=self._source is batch_gradients,
        )
        try:
            step = OpenStep(
                self._index,
                self._model,
                self._optimizers,
                audience,
                surroundings,
                self._layouts,
                self._failed,
                self._source,
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

    def _leave(self, step: OpenStep | None, failed: bool) -> None:
        """Ends the user's block. Where the optimizer steps later, the reading waits for it."""
        self._inside = False
        if failed or self._closed:
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
            self._books.tell_plan(self._index - 1, self._seconds())
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
            done = step.settle(self._seconds())
            self._previous = step.steps
            readings = self._windows.add(done)
            if readings:
                readings.setdefault(done.index, {}).update(self._books.readings(done, step.learning_rates()))
            for index, by_name in readings.items():
                self._writer.put(index, done.time, by_name)
            self._books.announce(step)
            self._notices.joined(step.index, self._table.newcomers(self._model, self._optimizers))
        except BaseException as error:
            self._windows.forget()
            if not isinstance(error, Exception):
                raise
            self._notices.failed(step.index, "the capture", error)
        taken = step.took + (self._clock.elapsed() or 0.0)
        work = step.audience.work({**step.seconds(), **self._windows.seconds})
        self._budget.tracked(taken, work, self._writer.seconds, self._clock.idle)

    def _failed(self, error: Exception) -> None:
        self._notices.failed(self._index, "the capture", error)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _require_running(self) -> None:
        if self._closed:
            raise RuntimeError(f"the cockpit of {self.run} is closed; make a new one to go on")


def _interrupt(reference: weakref.ref[Cockpit]) -> None:
    """The interpreter ends with the run still open: its last step may still wait for its optimizer."""
    cockpit = reference()
    if cockpit is not None:
        cockpit.close("interrupted")
