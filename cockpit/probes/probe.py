"""What a probe is: one expensive primitive, computed once a step, however many instruments ask for it."""

from __future__ import annotations

import time
import zlib
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from cockpit.capture.backward.accumulation import Accumulation
from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.hooks.forward import ModuleOutput
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.individual.workspace import Workspace
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.parameters import Displacement, Movement, ParameterTable
from cockpit.probes.row_sums import RowSums, add_chunk

Result = TypeVar("Result")

_LONG = 1 << 16
"""Elements of an individual gradient from which on samples are handed over one by one: copying them costs more."""


@dataclass
class Surroundings:
    """What a collector may look at while a step is open.

    Args:
        table: The watched parameters; collectors refer to them by index.
        workspace: Scratch memory.
        displacement: Parameter changes, with ``θ(t)`` remembered; ``None`` where no probe asks for them.
        previous: ``s`` of the step before, if an instrument looks back at it.
        begins_window: Whether an instrument looks at this step and the next.
        checked: Whether it is seen to that individual gradients add up to the gradient.
        left_out: Parameters without individual gradients, and why. Filled as reasons turn up.
        routes: How the individual gradients of the others came about. Filled as they arrive.
        index: Number of the step.
        memory: What probes remember from step to step, by probe.
        collectors: Those of the step, by probe, as they begin.
        backpack: Whether everything that BackPACK has an extension for is to come from BackPACK.
    """

    table: ParameterTable
    workspace: Workspace
    displacement: Displacement | None
    previous: Movement | None = None
    begins_window: bool = False
    checked: bool = True
    left_out: dict[int, str] = field(default_factory=dict)
    routes: dict[int, str] = field(default_factory=dict)
    index: int = 0
    memory: dict[Probe[Any], Any] = field(default_factory=dict)
    collectors: dict[Probe[Any], Collector[Any]] = field(default_factory=dict)
    backpack: bool = False

    def generator(self, probe: Probe[Any], device: torch.device) -> torch.Generator:
        """A random generator of the probe's own: the same numbers whenever the same step is read.

        Args:
            probe: Whose it is; probes with other settings draw other numbers.
            device: Where it draws.
        """
        seed = zlib.crc32(f"{probe!r} {self.index}".encode())
        return torch.Generator(device).manual_seed(seed)


class Collector(ABC, Generic[Result]):
    """Gathers one probe's numbers during one step. Parameters arrive in the order of the backward pass."""

    def model_called(self, batch: Tensor) -> None:
        """The model is called, and this tensor is the first that it is given; only for a probe of ``inputs``."""

    def module_called(self, output: ModuleOutput) -> None:
        """A module has returned; only for a probe of ``outputs``."""

    def gradient(self, index: int, gradient: Tensor, backward: BackwardPass) -> None:
        """A parameter's gradient, raw: still at the scale of the pass."""

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        """How a parameter's individual gradients are to be reduced; ``None`` if they are of no interest."""
        return None

    def before_backward(self, graph: LossGraph) -> None:
        """A backward pass is about to begin; only where the probe is of second order."""

    def end_pass(self, backward: BackwardPass) -> None:
        """The backward pass is over; every parameter has been seen."""

    def before_optimizer(self, optimizer: Optimizer, accumulation: Accumulation) -> None:
        """An optimizer is about to step.

        Args:
            optimizer: The optimizer.
            accumulation: Tells what was done to the gradients since the last backward pass.
        """

    def moved(self, step: Movement) -> None:
        """The optimizer has stepped: ``s``."""

    @abstractmethod
    def result(self) -> Result:
        """The probe's numbers, on the host.

        Raises:
            Unavailable: With the reason why there are none.
        """


class Reduction(ABC):
    """What becomes of one parameter's individual gradients."""

    only: tuple[int, ...] | None = None
    """Ascending indices of the samples it looks at, if not at all."""

    sums: RowSums | None = None
    """Sums over the rows that it wants, all samples', once :meth:`closed` has said that it needs rows. They are formed
    in one pass for all who want some; for other purposes it is given the rows besides."""

    @abstractmethod
    def closed(self) -> bool:
        """Reduces without materialising them; ``False`` where the rows are needed."""

    def rows(self, start: int, rows: Tensor) -> None:  # noqa: B027 - sums may be all it wants
        """Reduces a chunk of materialised rows, shape ``[n, numel]``, beginning with sample ``start``.

        Where it looks at some samples only, it is given those, and ``start`` counts among them.
        """

    def finish(self) -> None:  # noqa: B027
        """All rows have been seen, or :meth:`closed` did without."""


@dataclass(frozen=True)
class Probe(ABC, Generic[Result]):
    """Base of all probes: a frozen dataclass whose fields are its settings. Equal settings share one computation."""

    individual: ClassVar[bool] = False
    """Whether individual gradients are needed."""

    movement: ClassVar[bool] = False
    """Whether the parameters' values around the step are needed."""

    sums_up: ClassVar[bool] = False
    """Whether, in a step that only ends windows, it sees to it that individual gradients add up to the gradient."""

    second_order: ClassVar[bool] = False
    """Whether the graph of the loss is needed before it is walked."""

    inputs: ClassVar[bool] = False
    """Whether what the model is called with is needed."""

    outputs: ClassVar[bool] = False
    """Whether what the modules return is needed."""

    _hashed: ClassVar[int | None] = None  # the instances' own, once one is asked

    def __init_subclass__(cls) -> None:
        # That of a dataclass knows the fields alone: all probes without settings would share a place in every dict.
        cls.__hash__ = _hash  # type: ignore[method-assign, assignment]

    def __getstate__(self) -> dict[str, Any]:
        # Other processes hash otherwise.
        return {name: value for name, value in vars(self).items() if name != "_hashed"}

    def builds_on(self) -> tuple[Probe[Any], ...]:
        """Probes whose collectors this one's works with: they begin before it, are told everything before it, and where
        one of them fails, so does this one."""
        return ()

    @abstractmethod
    def collector(self, surroundings: Surroundings) -> Collector[Result]:
        """Begins a step."""

    def contained_in(self, other: Probe[Any]) -> bool:
        """Whether another probe's result holds this one's, so that nothing need be collected for it."""
        return False

    def extract(self, result: Any) -> Result:
        """This probe's result out of that of one it is contained in."""
        raise NotImplementedError


def _hash(probe: Probe[Any]) -> int:
    # Asked for a few hundred times a step.
    if probe._hashed is None:
        object.__setattr__(probe, "_hashed", hash((type(probe), *vars(probe).values())))
    assert probe._hashed is not None
    return probe._hashed


@cache
def default(probe: type[Probe[Result]]) -> Probe[Result]:
    """A probe with its default settings."""
    return probe()


def reduce(gradients: SampleGradients, reductions: Sequence[Reduction], workspace: Workspace) -> list[float]:
    """Runs all reductions of one parameter, materialising its individual gradients at most once.

    Args:
        gradients: The parameter's individual gradients.
        reductions: What is wanted of them.
        workspace: Scratch memory.

    Returns:
        Seconds that each reduction took. Those that need the rows share what it takes to form them.
    """
    laps = _Laps(len(reductions))
    open_ends = [place for place, reduction in enumerate(reductions) if not laps.of(place, reduction.closed())]
    looked_at = {reductions[place].only for place in open_ends}
    selected = None
    if len(looked_at) == 1 and (only := next(iter(looked_at))) is not None:
        selected = gradients.select(only)  # nobody looks at the others: they need not be formed
    sums = {place: wanted for place in open_ends if (wanted := reductions[place].sums) is not None}
    if open_ends:
        for start, rows in (gradients if selected is None else selected).rows(workspace):
            laps.of_all(open_ends)
            if sums:
                add_chunk(sums.values(), start, rows)
                laps.of_all(sums)
            for place in open_ends:
                if selected is None:
                    _pass_on(reductions[place], start, rows)
                else:
                    reductions[place].rows(start, rows)
                laps.of(place)
    for place, reduction in enumerate(reductions):
        reduction.finish()
        laps.of(place)
    return laps.seconds


class _Laps:
    """Charges the time since the last call to whoever it was spent for."""

    def __init__(self, count: int) -> None:
        self.seconds = [0.0] * count
        self._since = time.perf_counter()

    def of(self, place: int, passed: bool = True) -> bool:
        """The time was spent for one; hands through what it came to."""
        self.of_all([place])
        return passed

    def of_all(self, places: Collection[int]) -> None:
        """The time was spent for several alike."""
        now = time.perf_counter()
        for place in places:
            self.seconds[place] += (now - self._since) / len(places)
        self._since = now


def _pass_on(reduction: Reduction, start: int, rows: Tensor) -> None:
    """Gives a reduction those rows of a chunk that it looks at."""
    if reduction.only is None:
        reduction.rows(start, rows)
        return
    first, last = (bisect_left(reduction.only, end) for end in (start, start + len(rows)))
    inside = [sample - start for sample in reduction.only[first:last]]
    if len(inside) == len(rows):
        reduction.rows(first, rows)
    elif rows.shape[1] > _LONG:
        for place, row in enumerate(inside, first):
            reduction.rows(place, rows[row : row + 1])
    elif inside:
        reduction.rows(first, rows[torch.as_tensor(inside, device=rows.device)])
