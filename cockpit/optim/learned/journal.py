"""The run of a meta-training in the log, as the dashboard draws any other."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

import torch

from cockpit.optim.learned.rule import Tensors
from cockpit.panel import Panel, Place, Screen
from cockpit.reading import Reading
from cockpit.screens import PANELS
from cockpit.store import Header
from cockpit.store.address import Place as Where
from cockpit.tracking.arguments import state_after
from cockpit.tracking.description import describe_optimizer, environment
from cockpit.tracking.places import PROGRESS, open_log

if TYPE_CHECKING:
    from cockpit.optim.learned.training import MetaTraining, Progress

_PANELS = {
    "meta_loss": Panel(
        title="Meta-loss",
        kind="lines",
        keys=("loss",),
        like="loss",
        yscale="log",
        how_to_read="Mean loss over the trainings that are going on; beside it new problems, trained to the end.",
        formula=r"L(\varphi) = \frac{1}{B} \sum_b \sum_{k} \ell_b(\theta_k(\varphi)) / K",
        good="Falling, and the trials on new problems with it.",
        bad="Trials that rise while the meta-loss falls: what is learned holds for the first steps only; "
        "take longer truncations. Both flat: look at the meta-gradient.",
        source="Outer losses after each update of a truncation, as the recipe sums them up; test/loss is the loss at "
        "the end of whole trainings.",
    ),
    "gradient_sizes": PANELS["gradient_sizes"],
    "meta_parameters": Panel(
        title="Meta-parameters",
        kind="heatmap",
        keys=("meta_rms",),
        yscale="log",
        ylabel="root mean square",
        how_to_read="One row for each meta-parameter; rows that stay as they were are not learned.",
        formula=r"\sqrt{\frac{1}{d} \sum_j \varphi_j^2}",
        good="Rows that settle.",
        bad="Rows that grow without end: the outer learning rate is too large, or the meta-loss rewards it.",
        source="The values themselves; their means are logged as meta_mean.",
    ),
    "lost": Panel(
        title="Diverged problems",
        kind="lines",
        keys=("lost",),
        optional=True,
        how_to_read="Trainings that left what numbers can hold; they are replaced by new ones.",
        formula=r"\#\{\, b \mid \ell_b \ \text{is not finite} \,\}",
        good="None, after the beginning.",
        bad="More than a few: begin with smaller steps, or clip the meta-gradient.",
        source="Counted in each update of the meta-parameters.",
    ),
}
_SCREEN = Screen(
    name="Meta-training",
    columns=2,
    places=(
        Place("meta_loss", column=0, row=0),
        Place("gradient_sizes", column=1, row=0),
        Place("meta_parameters", column=0, row=1),
        Place("lost", column=1, row=1),
    ),
)


class Journal:
    """Writes the run of a meta-training: meta-loss, meta-gradient, meta-parameters.

    A context manager: leaving it ends the run.

    Args:
        run: Directory or address of the run.
        training: The meta-training, as it begins.
        resume: Whether it goes on, at its iteration.

    Raises:
        ValueError: If ``run`` names neither a directory nor a run in a database.
        RunIsLive: If the run is being written.
        OSError: If the place cannot be written.
    """

    keys: ClassVar[tuple[str, ...]] = ("loss", "grad_norm", "learning_rate", "meta_rms", "meta_mean", "lost")
    """Log keys of every such run; ``test/loss`` where the recipe has a test task."""

    def __init__(self, run: str | Where, training: MetaTraining, *, resume: bool = False) -> None:
        self._training = training
        self._log = open_log(run, _header(training), training.iteration if resume else False)
        self.place = self._log.place
        self._began = time.perf_counter() - self._log.seconds

    def _seconds(self) -> float:
        return time.perf_counter() - self._began

    def write(self, progress: Progress, tried: float | None = None) -> None:
        """The update that was made last.

        Args:
            progress: What it was.
            tried: Loss at the end of trainings of new problems, where that was tried.
        """
        iteration, meta = self._training.iteration - 1, self._training.detached()
        norms = {name: float(gradient.norm()) for name, gradient in progress.gradient.items()}
        readings = {
            "loss": Reading(progress.loss),
            "grad_norm": Reading(progress.norm if norms else None, norms),
            "learning_rate": Reading(float(self._training.optimizer.param_groups[0]["lr"])),
            "meta_rms": Reading(_rms(meta), {name: _rms({name: tensor}) for name, tensor in meta.items()}),
            "meta_mean": Reading(_mean(meta), {name: _mean({name: tensor}) for name, tensor in meta.items()}),
            "lost": Reading(float(progress.lost)),
        }
        self._log.writer.put(iteration, self._seconds(), readings)
        if tried is not None:
            self._log.writer.scalars(iteration, self._seconds(), {"test/loss": tried})

    def close(self, state: str = "finished") -> None:
        """Ends the run as one that ``finished``, was ``interrupted`` or ``crashed``."""
        self._log.writer.document(PROGRESS, {"steps": self._training.iteration, "seconds": self._seconds()})
        self._log.writer.close(state)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(state_after(error))


def _header(training: MetaTraining) -> Header:
    recipe, meta = training.recipe, training.detached()
    parameters = [
        {"name": name, "shape": list(tensor.shape), "numel": tensor.numel(), "module": "", "type": recipe.rule.name}
        for name, tensor in meta.items()
    ]
    return Header(
        name="",
        created=time.time(),
        config={**recipe.described(), "seed": training.seed},
        tags=("meta-training",),
        panels=_PANELS,
        screens=(_SCREEN,),
        model={"class": recipe.rule.name, "parameters": parameters},
        optimizer=[describe_optimizer(training.optimizer)],
        environment={**environment(next(iter(meta.values()))), "seed": training.seed},
    )


def _rms(tensors: Tensors) -> float:
    return float(torch.cat([tensor.flatten() for tensor in tensors.values()]).square().mean().sqrt())


def _mean(tensors: Tensors) -> float:
    return float(torch.cat([tensor.flatten() for tensor in tensors.values()]).mean())
