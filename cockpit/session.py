"""The cockpit as its user sees it; what happens in a step, and when, is :mod:`cockpit.tracking.tracker`'s."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from cockpit.clash import check_for_clash
from cockpit.formats.json_log import output_of, write_json
from cockpit.instrument import Instrument, resolve
from cockpit.notebook import show
from cockpit.parameters import Displacement, ParameterTable
from cockpit.run import load_run
from cockpit.schedule import Schedule, as_schedule
from cockpit.sinks import Sink
from cockpit.sinks.feed import Feeds
from cockpit.store import Header
from cockpit.store.address import Place
from cockpit.tracking import job as jobs
from cockpit.tracking.arguments import (
    STATES,
    checked_backend,
    checked_budget,
    checked_config,
    checked_model,
    checked_optimizers,
    checked_resume,
    checked_scalars,
    checked_sinks,
    checked_tags,
    state_after,
    turned_off,
)
from cockpit.tracking.bookkeeping import KEYS, PLAN_KEYS
from cockpit.tracking.description import describe_run
from cockpit.tracking.dispatch import Dispatched
from cockpit.tracking.following import follow
from cockpit.tracking.job import this_job
from cockpit.tracking.notices import CockpitWarning, depth_of_the_users_code
from cockpit.tracking.places import OpenedLog, open_log
from cockpit.tracking.step_context import StepContext
from cockpit.tracking.tracker import Tracker
from cockpit.tracking.watched import Watched

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
            ten percent. Of a job of several processes, which wait for each other, half of that is the first one's.
        run: Directory of the log; ``runs/<script>-<time>`` if not given. Or an address in a PostgreSQL database,
            ``postgresql+psycopg://user:password@host:port/database/name``; the name may hold slashes. A finished run's
            name gets a suffix. Processes of one job write one run, which the first one names.
        config: Hyperparameters to keep with the run.
        tags: Words to find the run by.
        resume: Whether to continue the run that is in ``run``: after its last step, or at the step given, where a
            checkpoint is older than that. What was logged from there on is then masked by what comes.
        sinks: Other tools that the run is passed on to while it is written, such as ``TensorBoard("logs")``: see
            :mod:`cockpit.sinks`. What goes wrong there is told, and is no matter of the training's.
        enabled: ``False`` turns everything off, as does the environment variable ``COCKPIT_DISABLE=1``.
        backend: What computes individual gradients and the diagonals of curvature matrices: the cockpit itself, or
            ``"backpack"``, which knows fewer layers and holds all samples' gradients of a parameter at once.

    Raises:
        TypeError: For a model, an optimizer or a sink of another kind, or a budget or step that is no number.
        ValueError: For unknown or no instruments, a budget that is not positive and finite, or a model without
            trainable parameters that the optimizer holds.
        RunIsLive: If another process or cockpit writes this run.
        ImportError: For an address, without the extra ``postgres``.
        OSError: If the log cannot be written.
    """

    run: Place | None = None
    """Directory of the log, or its address, which hides the password; ``None`` where the cockpit is turned off."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        loss_fn: object = None,
        *,
        instruments: str | Instrument | type[Instrument] | Iterable[str | Instrument | type[Instrument]] = "economy",
        track: int | Literal["auto"] | Schedule = "auto",
        budget: float = 0.1,
        run: str | Place | None = None,
        config: Mapping[str, Any] | None = None,
        tags: str | Iterable[str] = (),
        resume: bool | int = False,
        sinks: Sink | Iterable[Sink] = (),
        enabled: bool = True,
        backend: str = "cockpit",
    ) -> None:
        self.enabled = enabled and not turned_off()
        if not self.enabled:
            return
        trained, optimizers = checked_model(model), checked_optimizers(optimizer)
        watching = resolve(instruments)
        schedule, share = as_schedule(track), checked_budget(budget)
        source = checked_backend(backend)
        passed_on = checked_sinks(sinks)
        table = self._parameters_of(trained, optimizers)
        moves = any(probe.movement for instrument in watching for probe in instrument.probes())
        watched = Watched(trained, optimizers, table, Displacement(table) if moves else None, source)
        self._own_keys = (*(instrument.name for instrument in watching), *KEYS, *PLAN_KEYS)
        header = describe_run(
            trained, table, optimizers, watching, schedule, checked_config(config), checked_tags(tags)
        )
        log = self._opened(run, header, checked_resume(resume))
        if log is None:
            self.enabled = False
            return
        self._job, self._writer, self.run = log.job, log.writer, log.place
        wanted = instruments if isinstance(instruments, str) else ""
        feeds = Feeds(passed_on if log.job.leads else [])  # once for all processes
        self._tracker = Tracker(watched, watching, schedule, share * log.job.part, wanted, log, feeds)
        self._tracker.begin()

    def _opened(self, run: str | Place | None, header: Header, resume: bool | int) -> OpenedLog | None:
        job = this_job()
        log = open_log(run, header, resume, job) if job.leads else follow(run, header, resume, job)
        if log is None:
            words = (
                f"this is process {job.rank} of {job.size}, and the first one has opened no run within "
                f"{jobs.PATIENCE:.0f} s, so nothing is read here. Make the cockpit in every process, or with "
                "enabled=False in this one; before torch.distributed is initialised, all of them need the same "
                "run='runs/<name>'"
            )
            warnings.warn(words, CockpitWarning, stacklevel=4)
        return log

    def _parameters_of(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> ParameterTable:
        return ParameterTable(model, optimizers)

    @property
    def overhead(self) -> float | None:
        """Extra time over plain time so far, 0.1 is ten percent; ``None`` before there is a yardstick."""
        return self._tracker.overhead() if self.enabled else None

    def step(self) -> StepContext:
        """One optimizer update, however many backward passes: ``with cockpit.step(): …``.

        Raises:
            RuntimeError: On entering, if a step is already open, or the cockpit is closed.
        """
        if not self.enabled:
            return StepContext()
        return StepContext(self._tracker.enter, self._tracker.leave, self._tracker.hands_over)

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
        self._tracker.require_open()
        numbers = checked_scalars(values, self._own_keys)
        self._writer.scalars(self._tracker.latest, self._tracker.seconds(), numbers)
        self._tracker.logged(numbers)

    def flush(self) -> None:
        """Waits until what was read so far is in the log, five seconds at most; warns if it is not there by then."""
        if self.enabled and not self._writer.flush():
            words = (
                f"the log {self.run} is not written in time and lacks the latest readings, and so does what is made of "
                "it now: flush() waits again"
            )
            warnings.warn(words, CockpitWarning, stacklevel=depth_of_the_users_code())

    def show(self, *, height: int = 900) -> None:
        """Displays this run's dashboard, live, below the cell of a notebook, see :func:`cockpit.show`."""
        if self.run is not None:
            show(self.run, height=height)

    def write(self, logpath: str | Path) -> None:
        """Writes what was read so far as the JSON that f-dangel/cockpit's plotter reads; of several processes one does.

        Args:
            logpath: The file, without its ending ``.json``.
        """
        if self.run is not None and self._job.leads:
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
        if self.enabled:
            self._tracker.close(state)

    def __enter__(self) -> Cockpit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(state_after(error))
