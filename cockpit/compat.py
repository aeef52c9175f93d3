"""The cockpit as f-dangel/cockpit has it: made of parameters, and wrapped around the backward pass alone.

``with cockpit(global_step, info={…}):`` begins when the forward pass is over. What is needed of it is what BackPACK
keeps on modules that were extended: their inputs and outputs, and those of the loss. From there on it is the same
engine that watches a whole step.

Schneider et al., *Cockpit: a practical debugging tool for training deep neural networks* (2021), Algorithm C.1.
"""

from __future__ import annotations

import atexit
import operator
import sys
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from cockpit.capture.hooks.extended import is_extended
from cockpit.capture.losses.afterwards import ModuleFinder, seen_loss
from cockpit.formats.json_log import METRICS, Output, output_of, write_json
from cockpit.instrument import Instrument, Wanted
from cockpit.parameters import ParameterTable
from cockpit.quantities import Quantity
from cockpit.run import load_run
from cockpit.session import Cockpit
from cockpit.store.address import Place
from cockpit.tracking.arguments import turned_off
from cockpit.tracking.job import this_job
from cockpit.tracking.notices import CockpitWarning
from cockpit.tracking.open_step import OpenStep


class ParameterCockpit:
    """``Cockpit(params, quantities=…)``: what scripts written for f-dangel/cockpit call a cockpit.

    The run is logged as any other, from the first step on, and can be watched while it goes.

    Args:
        params: Parameters to watch. The modules that own them are found when they are called, so the cockpit has to be
            made before the first forward pass; and BackPACK's ``extend`` has to be called on them.
        quantities: Of :mod:`cockpit.quantities`, or instruments and their names.
        options: Of the run, as for a cockpit of a model: ``run``, ``config``, ``tags``, ``backend``, ``enabled``.

    Raises:
        TypeError: For anything but parameters.
        ValueError: For parameters that are not trained, none at all, or an object that is no quantity.
    """

    def __init__(self, params: Iterable[Any], quantities: Iterable[Any] | None = None, **options: Any) -> None:
        self._parameters = _checked(params)
        self._instruments: list[Wanted] = []
        self._options = options
        self._finder = ModuleFinder(self._parameters)
        self._session: _Session | None = None
        self._early: list[tuple[int, dict[str, float | None]]] = []
        for quantity in quantities or ():
            self.add(quantity)

    @property
    def run(self) -> Place | None:
        """Directory of the log, or its address; ``None`` before the first step, and where the cockpit is turned off."""
        return None if self._session is None else self._session.run

    def add(self, quantity: Any) -> None:
        """Tracks a quantity of :mod:`cockpit.quantities`, an instrument or the name of one.

        Raises:
            ValueError: For anything else.
            RuntimeError: After the first step.
        """
        if self._session is not None:
            raise RuntimeError("the run has begun: quantities are added before the first step")
        if isinstance(quantity, Quantity):
            quantity = quantity.instrument()
        elif not isinstance(quantity, (str, Instrument)):
            raise ValueError(f"a quantity of cockpit.quantities or an instrument was expected, got {quantity!r}")
        self._instruments.append(quantity)

    def create_graph(self, global_step: int) -> bool:
        """Whether ``backward`` has to be called with ``create_graph=True``: never.

        Second derivatives are taken before the backward pass, while the graph of the loss is whole.
        """
        return False

    def __call__(
        self, global_step: int, *exts: Any, info: Mapping[str, Any] | None = None, debug: bool = False
    ) -> AbstractContextManager[None]:
        """A context for the backward pass of one step.

        Args:
            global_step: Number of the step.
            exts: Extensions of BackPACK's to run besides.
            info: ``optimizer``, with the first step at least. ``individual_losses``, shape ``[N]``, and ``loss`` where
                the loss is no extended module. Anything else is found without.
            debug: Has no effect.

        Raises:
            ValueError: If the optimizer is missing at the first step, or none holds the parameters.
            RuntimeError: If modules that own the parameters were not called since the cockpit was made.
        """
        self._finder.stop()
        info = info or {}
        # Such scripts write one JSON log, as the only process: of several the first one does.
        if self._session is None and self._instruments and not turned_off() and this_job().leads:
            self._session = self._begun(info)
        if self._session is None or not self._session.enabled:
            return _running(exts)
        return self._around(self._session, operator.index(global_step), exts, info)

    def log(
        self,
        global_step: int,
        epoch_count: float,
        train_loss: float,
        valid_loss: float,
        test_loss: float,
        train_accuracy: float,
        valid_accuracy: float,
        test_accuracy: float,
        learning_rate: float,
    ) -> None:
        """Logs what is known once an epoch. The learning rate is read from the optimizer instead."""
        given = (epoch_count, train_loss, valid_loss, test_loss, train_accuracy, valid_accuracy, test_accuracy)
        values = zip(METRICS, given, strict=True)
        self._early.append(
            (operator.index(global_step), {key: None if value is None else float(value) for key, value in values})
        )
        self._pass_on()

    def get_output(self) -> Output:
        """Everything read so far: by step, then by name of the quantity.

        Numbers, lists with one number for each parameter, and ``{"hist", "edges"}`` with arrays for histograms.
        """
        self.flush()
        output = {} if self.run is None else output_of(load_run(self.run))
        for step, values in self._early:  # nothing has begun
            output.setdefault(step, {}).update({key.replace("/", "_"): value for key, value in values.items()})
        return output

    @property
    def output(self) -> Output:
        """As :meth:`get_output`."""
        return self.get_output()

    def write(self, logpath: str | Path) -> None:
        """Writes :meth:`get_output` as JSON.

        Args:
            logpath: The file, without its ending ``.json``.
        """
        write_json(self.get_output(), logpath)

    def flush(self) -> None:
        """Waits until what was read so far is in the log; warns if it is not there in time."""
        if self._session is not None:
            self._session.flush()

    def close(self, state: str = "finished") -> None:
        """Ends the run; done at the latest when the interpreter exits."""
        self._finder.stop()
        if self._session is not None:
            self._session.close(state)

    def _begun(self, info: Mapping[str, Any]) -> _Session:
        optimizer = info.get("optimizer")
        if not isinstance(optimizer, Optimizer):
            raise ValueError('the optimizer is missing: write cockpit(global_step, info={"optimizer": optimizer, …})')
        roots = self._finder.roots
        if self._finder.missing:
            raise RuntimeError(
                f"{len(self._finder.missing)} of the parameters belong to no module that was called since the cockpit "
                "was made: make it before the forward pass"
            )
        model = roots[0] if len(roots) == 1 else nn.ModuleList(roots)
        session = _Session(
            model, optimizer, instruments=self._instruments, only=self._parameters, **{"track": 1, **self._options}
        )
        if session.enabled:
            session.remark_on_modules()
        atexit.register(_finish, weakref.ref(self))  # before the session's own, which is older
        self._session = session
        self._pass_on()
        return session

    def _pass_on(self) -> None:
        if self._session is not None and self._session.enabled:
            for step, values in self._early:
                self._session.log_at(step, values)
            self._early.clear()

    @contextmanager
    def _around(self, session: _Session, index: int, exts: tuple[Any, ...], info: Mapping[str, Any]) -> Iterator[None]:
        step, failed = session.enter_at(index), True
        try:
            if step is not None:
                self._adopt(step, info)
            with _running(exts):
                yield
            failed = False
        finally:
            session.leave(step, failed)

    def _adopt(self, step: OpenStep, info: Mapping[str, Any]) -> None:
        """Tells an open step of the forward pass that is over."""
        losses = [seen for module in self._finder.losses if (seen := seen_loss(module)) is not None]
        step.capture.adopt(losses)
        loss, per_sample = info.get("loss"), info.get("individual_losses")
        if not losses and isinstance(loss, Tensor) and isinstance(per_sample, Tensor) and per_sample.dim() > 0:
            step.capture.adopt_individual(loss, per_sample)


class _Session(Cockpit):
    """A cockpit whose steps are entered by number.

    Args:
        arguments: Of the cockpit.
        only: Parameters to watch.
        options: Of the cockpit.
    """

    def __init__(self, *arguments: Any, only: list[Tensor], **options: Any) -> None:
        self._only = only
        super().__init__(*arguments, **options)

    def _parameters_of(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> ParameterTable:
        return ParameterTable(model, optimizers, self._only)

    def enter_at(self, index: int) -> OpenStep | None:
        """Begins a step."""
        return self._tracker.enter_at(index)

    def remark_on_modules(self) -> None:
        """Warns of modules that nothing but the mini-batch gradient can be told of."""
        watched = self._tracker.watched
        owning = watched.table.modules(watched.model)
        bare = [name for name, module in owning.items() if not is_extended(module)]
        if bare:
            warnings.warn(
                f"the modules {', '.join(bare)} are not extended, so there are no individual gradients of their "
                "parameters: call backpack.extend on the model",
                CockpitWarning,
                stacklevel=4,
            )

    def leave(self, step: OpenStep | None, failed: bool) -> None:
        """Ends it."""
        self._tracker.leave(step, failed)

    def log_at(self, index: int, values: Mapping[str, float | None]) -> None:
        """Logs scalars under a step of any number."""
        self._tracker.require_open()
        self._writer.scalars(index, self._tracker.seconds(), values)


def _checked(params: Iterable[Any]) -> list[Tensor]:
    parameters = list(params)
    for p in parameters:
        if not isinstance(p, Tensor):
            raise TypeError(
                f"Cockpit watches a torch.nn.Module, or parameters of one, got {type(p).__name__} among the parameters"
            )
        if not p.requires_grad:
            raise ValueError(f"a parameter of shape {list(p.shape)} has requires_grad=False: give those that train")
    if not parameters:
        raise ValueError("no parameters were given; was the generator model.parameters() used up before?")
    return parameters


def _running(exts: tuple[Any, ...]) -> AbstractContextManager[None]:
    if not exts:
        return nullcontext()
    from backpack import backpack

    context: AbstractContextManager[None] = backpack(*exts)
    return context


def _finish(reference: weakref.ref[ParameterCockpit]) -> None:
    """The script has come to its end; where an error ended it, the session says so itself."""
    cockpit = reference()
    if cockpit is not None and getattr(sys, "last_value", None) is None:
        cockpit.close()
