"""Meta-training: learning the weights of a rule on many trainings."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from cockpit.optim.learned.cohort import Cohort, Life
from cockpit.optim.learned.journal import Journal
from cockpit.optim.learned.recipe import AnnealedAdam, Recipe
from cockpit.optim.learned.rule import Rule, Tensors
from cockpit.optim.learned.tasks import Task
from cockpit.optim.learned.unroll import Estimate, started, unroll
from cockpit.optim.learned.weights import Weights, load_as, save_as
from cockpit.store.address import Place

CHECKPOINT = "checkpoint of a meta-training"
LONGEST = 60.0
"""Seconds that an interruption loses at most: after so many without a checkpoint there is one, due or not."""


class Progress(NamedTuple):
    """One update of the meta-parameters.

    Args:
        loss: The meta-loss before it, averaged over the problems; NaN where all of them diverged.
        gradient: The meta-gradient as the optimizer was given it; empty where there was none.
        norm: Norm of the meta-gradient before it was clipped.
        lost: Number of problems that diverged. They are left out, and replaced by new ones.
    """

    loss: float
    gradient: Tensors
    norm: float
    lost: int


class MetaTraining:
    """A meta-training in progress.

    Args:
        recipe: What it consists of.
        seed: Of everything that chance decides. PyTorch's own random numbers take no part.

    Attributes:
        meta: The meta-parameters as they are.
        iteration: Number of updates so far.

    Raises:
        ValueError: If there are more updates than an annealed learning rate has.
    """

    def __init__(self, recipe: Recipe, seed: int = 0) -> None:
        self.recipe, self.seed, self.iteration = recipe, seed, 0
        self._generator = torch.Generator().manual_seed(seed)
        self.meta = {name: t.requires_grad_() for name, t in recipe.rule.meta_parameters(self._generator).items()}
        self.optimizer = recipe.optimizer(list(self.meta.values()))
        if isinstance(self.optimizer, AnnealedAdam) and recipe.iterations > self.optimizer.steps:
            raise ValueError(
                f"the rate of {recipe.name!r} falls to zero in {self.optimizer.steps} updates, and nothing is learned "
                f"after them; got {recipe.iterations}: ask for at most {self.optimizer.steps}"
            )
        shape = {"copies": recipe.copies, "length": recipe.estimator.length, "sides": recipe.estimator.sides}
        self._cohorts = [
            Cohort(recipe.rule, task, **shape, horizon=horizon, generator=self._generator)
            for task, horizon in zip(recipe.tasks, recipe.horizons, strict=True)
        ]

    def iterate(self) -> Progress:
        """One update of the meta-parameters."""
        meta = self.detached()
        found = [
            self.recipe.estimator.estimate(cohort, meta, self.recipe.summary, self._generator, self.recipe.penalty)
            for cohort in self._cohorts
        ]
        sound = [_sound(estimate) for estimate in found]
        lost = sum(int((~each).sum()) for each in sound)
        loss, gradient = _pooled(found, sound)
        norm = float(torch.stack([g.norm() for g in gradient.values()]).norm()) if gradient else float("nan")
        if gradient:
            self._descend(gradient, norm)
        for cohort, each in zip(self._cohorts, sound, strict=True):
            cohort.renew(~each, self._generator)
        self.iteration += 1
        return Progress(loss, gradient, norm, lost)

    def _descend(self, gradient: Tensors, norm: float) -> None:
        clip = self.recipe.clip
        factor = 1.0 if clip is None else min(1.0, clip / max(norm, 1e-30))
        for name, parameter in self.meta.items():
            parameter.grad = gradient[name] * factor
        self.optimizer.step()

    def detached(self) -> Tensors:
        """The meta-parameters as they are, to compute with."""
        return {name: tensor.detach() for name, tensor in self.meta.items()}

    def weights(self) -> Weights:
        """What has been learned so far."""
        meta = {name: tensor.detach().clone() for name, tensor in self.meta.items()}
        provenance = {
            **self.recipe.described(), "seed": self.seed, "iterations": self.iteration, "torch": str(torch.__version__),
        }  # fmt: skip
        return Weights(self.recipe.rule, meta, provenance)

    def state_dict(self) -> dict[str, Any]:
        """All there is to go on from, bit for bit."""
        return {
            "recipe": self._identity(),
            "iteration": self.iteration,
            "meta": self.detached(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "cohorts": [cohort.state_dict() for cohort in self._cohorts],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what :meth:`state_dict` returned.

        Raises:
            ValueError: If that is of another recipe or seed; nothing has changed then.
        """
        mine, theirs = self._identity(), state["recipe"]
        if mine != theirs:
            other = {name: theirs.get(name) for name in mine if mine[name] != theirs.get(name)}
            wanted = {name: mine[name] for name in other}
            raise ValueError(
                f"the checkpoint is of another meta-training: it has {other} where {wanted} is asked for. "
                "Ask for what it began with, or begin anew without resume"
            )
        self.iteration = int(state["iteration"])
        with torch.no_grad():
            for name, parameter in self.meta.items():
                parameter.copy_(state["meta"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])
        for cohort, saved in zip(self._cohorts, state["cohorts"], strict=True):
            cohort.load_state_dict(saved)

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree in; more iterations may follow."""
        described = self.recipe.described()
        del described["iterations"]
        return {**described, "seed": self.seed}


def meta_train(
    recipe: Recipe,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    run: str | Place | None = None,
    checkpoint: str | Path | None = None,
    every: int = 500,
    resume: bool = False,
    quiet: bool = False,
) -> Weights:
    """Meta-trains, with a progress bar, and a run in the log that is watched as any other.

    Args:
        recipe: What to do.
        seed: Of everything that chance decides.
        out: File that the weights are written to at the end.
        run: Directory or address of the run; without one nothing is logged.
        checkpoint: File that is written every so often, after a minute at the latest, and at the end, to be resumed
            from.
        every: Iterations between two checkpoints, and between two trials on the recipe's ``test`` task.
        resume: Whether to go on from the checkpoint, to the recipe's number of iterations.
        quiet: Without the progress bar.

    Returns:
        What was learned.

    Raises:
        ValueError: If there is nothing to resume from, the checkpoint is of another recipe or seed, or there are more
            updates than an annealed learning rate has.
        FileNotFoundError: If the checkpoint to resume from is not there.
        OSError: If a file or the log cannot be written.
    """
    training = MetaTraining(recipe, seed)
    if resume:
        if checkpoint is None:
            raise ValueError("resume=True needs the checkpoint to go on from: checkpoint='weights.checkpoint'")
        training.load_state_dict(load_as(checkpoint, CHECKPOINT)["training"])
    with ExitStack() as stack:
        journal = None
        if run is not None:
            journal = stack.enter_context(Journal(run, training, resume=resume))
        bar = stack.enter_context(
            tqdm(total=recipe.iterations, initial=training.iteration, unit="update", dynamic_ncols=True, disable=quiet)
        )
        saved = monotonic()
        while training.iteration < recipe.iterations:
            progress = training.iterate()
            due = training.iteration % every == 0 or training.iteration == recipe.iterations
            tried = _tried(training) if due and recipe.test is not None else None
            if journal is not None:
                journal.write(progress, tried)
            if checkpoint is not None and (due or monotonic() - saved >= LONGEST):
                save_as(checkpoint, CHECKPOINT, {"training": training.state_dict()})
                saved = monotonic()
            bar.set_postfix_str(f"meta-loss {progress.loss:.4g}", refresh=False)
            bar.update()
    weights = training.weights()
    if out is not None:
        weights.save(out)
    return weights


@torch.no_grad()
def trained(rule: Rule, meta: Tensors, task: Task, *, copies: int, steps: int, generator: torch.Generator) -> Tensor:
    """Trains new problems with what was learned.

    Args:
        rule: What trains them.
        meta: Its meta-parameters.
        task: What they are problems of.
        copies: How many.
        steps: For how long.
        generator: The only source of chance.

    Returns:
        Their outer losses at the start and after each step. Shape ``[copies, steps + 1]``.
    """
    cohort = Cohort(rule, task, copies=copies, horizon=steps, length=steps, sides=1, generator=generator)

    def training(life: Life, step: Tensor, batches: list[Tensors]) -> Tensor:
        start = task.outer_loss(started(rule, meta, life, step), batches[0])
        losses, _ = unroll(rule, task, steps, meta, life, step, batches)
        return torch.cat([start[None], losses])

    return torch.func.vmap(training)(cohort.lives[0], cohort.step, cohort.batches(steps, generator))


def _tried(training: MetaTraining) -> float:
    """Mean outer loss at the end of trainings of new problems, the same ones each time."""
    recipe = training.recipe
    assert recipe.test is not None
    chance = torch.Generator().manual_seed(training.seed + 1)
    losses = trained(
        recipe.rule, training.detached(), recipe.test,
        copies=recipe.test_copies, steps=max(recipe.horizons), generator=chance,
    )  # fmt: skip
    return float(losses[:, -1].mean())


def _sound(estimate: Estimate) -> Tensor:
    """Which problems have a finite loss and gradient. Shape ``[copies]``."""
    finite = estimate.losses.isfinite()
    for gradient in estimate.gradients.values():
        finite = finite & gradient.isfinite().flatten(1).all(1) if gradient.ndim > 1 else finite & gradient.isfinite()
    return finite


def _pooled(found: list[Estimate], sound: list[Tensor]) -> tuple[float, Tensors]:
    """Meta-loss and meta-gradient, averaged over the problems that did not diverge."""
    number = sum(int(each.sum()) for each in sound)
    if not number:
        return float("nan"), {}
    loss = sum(float(estimate.losses[each].sum()) for estimate, each in zip(found, sound, strict=True)) / number
    gradient = {
        name: torch.cat([estimate.gradients[name][each] for estimate, each in zip(found, sound, strict=True)]).mean(0)
        for name in found[0].gradients
    }
    return loss, gradient
