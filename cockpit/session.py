"""The cockpit: the only file that knows the order of events in a step."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cockpit.capture.layout import Layouts
from cockpit.capture.unavailable import Unavailable
from cockpit.capture.workspace import Workspace
from cockpit.coverage import Coverage
from cockpit.description import describe_run
from cockpit.instrument import Instrument, resolve
from cockpit.notices import Notices
from cockpit.open_step import OpenStep
from cockpit.pace import Pace
from cockpit.parameters import Displacement, ParameterTable
from cockpit.places import open_log
from cockpit.probes.probe import Surroundings
from cockpit.reading import Reading
from cockpit.schedule import Schedule, as_schedule, describe, every
from cockpit.step import Step

DEFAULT_TRACK = 10


class Cockpit:
    """Watches a training loop: wrap each optimizer update in :meth:`step`.

    Args:
        model: The model; ``nn.DataParallel`` is refused.
        optimizer: Its optimizer, or a list of them.
        loss_fn: Not needed: losses of ``torch.nn`` and ``torch.nn.functional`` are recognised wherever they are called
            inside a step. Others are handed over with ``step.losses``.
        instruments: ``"economy"``, ``"economy+hess_trace"``, or a list of names, classes and objects.
        track: When instruments are read, unless they say so themselves: an interval, ``every(…)``, ``log_spaced(…)`` or
            a function from step to bool. By default every tenth step, and the next where an instrument looks at two.
        run: Directory of the log; ``runs/<script>-<time>`` if not given. A finished run's name gets a suffix.
        config: Hyperparameters to keep with the run.
        tags: Words to find the run by.
        resume: Whether to continue the run that is in ``run``.
        enabled: ``False`` turns everything off, as does the environment variable ``COCKPIT_DISABLE=1``.

    Raises:
        TypeError: For a model or an optimizer of another kind.
        ValueError: For unknown or no instruments, or a model without trainable parameters that the optimizer holds.
        RunIsLive: If another process or cockpit writes this run.
        OSError: If the log cannot be written.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        loss_fn: object = None,
        *,
        instruments: str | Iterable[str | Instrument | type[Instrument]] = "economy",
        track: int | Schedule | None = None,
        run: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        resume: bool = False,
        enabled: bool = True,
    ) -> None:
        self.enabled = enabled and os.environ.get("COCKPIT_DISABLE", "") in ("", "0") and _rank() == 0
        self.run: Path | None = None
        if not self.enabled:
            return
        self._optimizers = _checked(model, optimizer)
        self._model = model
        self._instruments = resolve(instruments)
        self._schedule = every(DEFAULT_TRACK) if track is None else as_schedule(track)
        self._table = ParameterTable(model, self._optimizers)
        header = describe_run("", model, self._table, self._optimizers, self._instruments, self._schedule, config, tags)
        self._writer, self.run = open_log(run, header, resume)
        self._began = time.monotonic() - self._writer.elapsed
        self._index = 0 if self._writer.last_step is None else self._writer.last_step + 1
        self._notices = Notices(self._writer, self._seconds)
        self._notices.unheld(self._table)
        self._pace = Pace()
        self._layouts, self._workspace = Layouts(), Workspace()
        self._displacement: Displacement | None = None
        self._windows: list[tuple[Instrument, list[Step]]] = []
        self._context: StepContext | None = None
        self._unsettled: OpenStep | None = None
        self._previous: Sequence[Tensor] | None = None
        self._coverage: Coverage | None = None
        self._closed = False
        if any(probe.movement for instrument in self._instruments for probe in instrument.probes()):
            self._displacement = Displacement(self._table)

    @property
    def overhead(self) -> float | None:
        """Extra time over plain time so far, 0.1 is ten percent; ``None`` before there is a yardstick."""
        return self._pace.overhead() if self.enabled else None

    def step(self) -> StepContext:
        """One optimizer update, however many backward passes: ``with cockpit.step(): …``.

        Raises:
            RuntimeError: If a step is already open, or the cockpit is closed.
        """
        return StepContext(self)

    def log(self, values: Mapping[str, float | Tensor]) -> None:
        """Logs scalars of the user's own under the number of the latest step.

        Args:
            values: By name, such as ``valid/accuracy``. Numbers, or tensors with one element.

        Raises:
            TypeError: For a value that is no number.
            ValueError: For a name that an instrument logs under.
        """
        if not self.enabled:
            return
        self._require_running()
        taken = {instrument.name for instrument in self._instruments}
        numbers = {}
        for key, value in values.items():
            if key in taken:
                raise ValueError(f"{key!r} is the log key of an instrument; choose another name, such as 'train/{key}'")
            numbers[key] = _number(key, value)
        index = self._index if self._context is not None else max(0, self._index - 1)
        self._writer.scalars(index, self._seconds(), numbers)

    def close(self, state: str = "finished") -> None:
        """Ends the run and its log; a second call does nothing.

        Args:
            state: ``finished``, ``interrupted`` or ``crashed``.
        """
        if not self.enabled or self._closed:
            return
        self._settle()
        self._closed = True
        self._windows.clear()
        self._workspace.clear()
        self._writer.close(state)

    def __enter__(self) -> Cockpit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.close("finished" if kind is None else "interrupted" if interrupted else "crashed")

    # The order of events in a step, from here on.

    def _enter(self, context: StepContext) -> OpenStep | None:
        """Begins a step; ``None`` if nothing looks at it."""
        self._require_running()
        if self._context is not None:
            raise RuntimeError(
                f"step {self._index} is still open: a step is one optimizer update, and steps do not nest; "
                "several backward passes may share one"
            )
        self._settle()
        self._context = context
        beginning = [i for i in self._instruments if (i.schedule or self._schedule)(self._index)]
        continuing = [instrument for instrument, _ in self._windows]
        if not beginning and not continuing:
            return None
        self._windows += [(instrument, []) for instrument in beginning]
        surroundings = Surroundings(
            self._table,
            self._workspace,
            self._displacement,
            previous=self._previous if any(i.window > 1 for i in continuing) else None,
            begins_window=any(i.window > 1 for i in beginning),
        )
        probes = dict.fromkeys(probe for i in (*beginning, *continuing) for probe in i.probes())
        step = OpenStep(
            self._index, self._model, self._optimizers, probes, surroundings, self._layouts, self._capture_failed
        )
        step.open()
        return step

    def _leave(self, step: OpenStep | None, began: float, failed: bool) -> None:
        """Ends the user's block. Where the optimizer steps later, the reading waits for it."""
        self._context = None
        if failed:
            # Neither counted nor logged: what was captured may be half of a step.
            self._windows.clear()
            if step is not None:
                step.abandon()
            return
        self._index += 1
        if step is None:
            self._previous = None
            self._pace.untracked(time.perf_counter() - began)
            return
        step.leave()
        if step.optimizer_stepped:
            self._finish(step)
        else:
            self._unsettled = step
            step.when_optimizer_steps(self._settle)
        self._pace.tracked(time.perf_counter() - began)

    def _settle(self) -> None:
        """Finishes a step whose optimizer stepped outside the block, or not at all."""
        step, self._unsettled = self._unsettled, None
        if step is not None:
            self._finish(step)

    def _finish(self, step: OpenStep) -> None:
        """Everything is known: compute the instruments whose window is complete, and log."""
        try:
            done = step.settle(self._seconds())
        except Exception as error:
            self._capture_failed(error)
            self._windows.clear()
            return
        self._previous = step.steps
        for _, steps in self._windows:
            steps.append(done)
        complete = [(i, steps) for i, steps in self._windows if len(steps) == i.window]
        self._windows = [(i, steps) for i, steps in self._windows if len(steps) < i.window]
        readings: dict[int, dict[str, Reading]] = {}
        missing: dict[str, str] = {}
        for instrument, steps in complete:
            readings.setdefault(steps[0].index, {})[instrument.name] = self._read(instrument, steps, missing)
        self._notices.unavailable(step.index, missing)
        if complete:
            readings.setdefault(step.index, {}).update(self._bookkeeping(done))
        for index, by_name in readings.items():
            self._writer.put(index, done.time, by_name)
        self._announce(step)

    def _read(self, instrument: Instrument, steps: Sequence[Step], missing: dict[str, str]) -> Reading:
        """One instrument's reading; whatever it raises stays here."""
        try:
            value = instrument.compute(steps)
        except Unavailable as reason:
            missing[instrument.name] = str(reason)
            return Reading(None, reason=str(reason))
        except Exception as error:
            self._notices.failed(steps[0].index, instrument.name, error)
            return Reading(None, reason=f"{type(error).__name__}: {error}")
        return value if isinstance(value, Reading) else Reading(value)

    def _bookkeeping(self, step: Step) -> dict[str, Reading]:
        """What every run logs beside its instruments."""
        rates = [float(group["lr"]) for o in self._optimizers for group in o.param_groups if "lr" in group]
        entries = {"cockpit.overhead": Reading(self._pace.overhead())}
        if rates:
            layers = {f"group {i}": rate for i, rate in enumerate(rates)} if len(rates) > 1 else {}
            entries["learning_rate"] = Reading(rates[0], layers)
        if step.samples is not None:
            entries["batch_size"] = Reading(float(step.samples))
        return entries

    def _announce(self, step: OpenStep) -> None:
        """Coverage, whenever it changes; and once, in one line, what is on."""
        coverage = Coverage.of(step.surroundings, step.coupled)
        if not step.looked_at_samples or coverage == self._coverage:
            return
        first, self._coverage = self._coverage is None, coverage
        self._writer.document("coverage", coverage.to_json())
        if first:
            interval = describe(self._schedule)
            print(
                f"cockpit: {len(self._instruments)} instruments, {interval}, {coverage} -> {self.run}", file=sys.stderr
            )

    def _capture_failed(self, error: Exception) -> None:
        self._notices.failed(self._index, "the capture", error)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _require_running(self) -> None:
        if self._closed:
            raise RuntimeError(f"the cockpit of {self.run} is closed; make a new one to go on")


class StepContext:
    """One training step, as the user sees it.

    Args:
        cockpit: The cockpit.
    """

    def __init__(self, cockpit: Cockpit) -> None:
        self._cockpit = cockpit
        self._step: OpenStep | None = None
        self._began = 0.0

    def losses(self, per_sample: Tensor) -> Tensor:
        """Registers the individual losses of a loss function of the user's own.

        Args:
            per_sample: Attached to the graph, shape ``[N]``.

        Returns:
            Their mean, to call ``backward`` on.

        Raises:
            ValueError: For another shape.
        """
        if per_sample.dim() != 1:
            raise ValueError(f"step.losses needs one loss per sample, shape [N], got shape {list(per_sample.shape)}")
        return per_sample.mean() if self._step is None else self._step.capture.register(per_sample)

    def __enter__(self) -> StepContext:
        if self._cockpit.enabled:
            self._began = time.perf_counter()
            self._step = self._cockpit._enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cockpit.enabled:
            step, self._step = self._step, None
            self._cockpit._leave(step, self._began, failed=kind is not None)


def _checked(model: nn.Module, optimizer: Optimizer | Sequence[Optimizer]) -> list[Optimizer]:
    """The optimizers as a list, if this is something that can be watched."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"Cockpit watches a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        raise TypeError(
            "nn.DataParallel splits every batch among threads, where individual gradients cannot be put together "
            "again; use DistributedDataParallel, or pass model.module and train on one device"
        )
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
    for item in optimizers:
        if not isinstance(item, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer or a list of them, got {type(item).__name__}")
    if not optimizers:
        raise TypeError("an empty list of optimizers trains nothing")
    return optimizers


def _rank() -> int:
    """This process's number in a distributed job; ranks other than 0 are silent."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0") or 0)


def _number(key: str, value: float | Tensor) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"cockpit.log takes numbers, but {key!r} is {type(value).__name__}: {error}") from None
