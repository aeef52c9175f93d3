"""Runs the whole cockpit over given steps and lays what it logged beside the truth."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import Truth
from torch import Tensor, nn

from cockpit import Cockpit, CockpitWarning, load_run
from cockpit.run import Run


class Opaque(torch.autograd.Function):
    """A linear map that autograd knows from outside only: nobody can tell what its weight sees of each sample."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return delta @ weight, delta.flatten(0, -2).T @ x.flatten(0, -2)


Step = Callable[[nn.Module, Any], Tensor]


def record(
    path: Path,
    model: nn.Module,
    batches: Sequence[Any],
    loss: Step,
    optimizer: torch.optim.Optimizer | None = None,
    **options: Any,
) -> Run:
    """Trains under a real cockpit, one step a batch, and reads the log back.

    Args:
        path: Where to log.
        model: The model.
        batches: One for each step.
        loss: Given model and batch, the loss to call ``backward`` on.
        optimizer: Plain gradient descent if not given.
        options: Of the cockpit.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1) if optimizer is None else optimizer

    def step(batch: Any) -> None:
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()

    return record_steps(path, model, optimizer, batches, step, **options)


def record_steps(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Any],
    step: Callable[[Any], Any],
    **options: Any,
) -> Run:
    """As :func:`record`, for a step of one's own: everything that happens between two updates.

    Warnings are taken for granted: what is missing shows in the log.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CockpitWarning)
        with Cockpit(model, optimizer, **{"run": path / "run", "track": 1, **options}) as cockpit:
            for batch in batches:
                with cockpit.step() as context:
                    step(batch) if step.__code__.co_argcount == 1 else step(batch, context)
    return load_run(path / "run")


GRADIENT_KEYS = ("loss", "grad_norm", "norm_test", "inner_test", "ortho_test", "grad_hist_1d")
"""What one step tells by itself, apart from how far the parameters moved."""


def logged(run: Run, key: str, step: int) -> Any:
    """Value of a key at a step; ``None`` where it is missing."""
    column = run[key]
    (place,) = np.flatnonzero(column.steps == step)
    if column.missing[place]:
        return None
    return column.values[place] if column.values.ndim > 1 else float(column.values[place])


def by_layer(run: Run, key: str, step: int) -> dict[str, Any]:
    """Values of a key by parameter at a step; those that are missing are left out."""
    layers = run[key].layers
    assert layers is not None, f"{key} has no layers"
    (place,) = np.flatnonzero(layers.steps == step)
    return {
        name: layers.values[place, i] for i, name in enumerate(layers.names) if not layers.missing[place, i]
    }  # fmt: skip


def expected(truth: Truth, key: str, only: Sequence[str] | None = None) -> Any:
    """What a key has to be."""
    return truth.loss() if key == "loss" else truth.histogram(only=only) if "hist" in key else getattr(truth, key)(only)


def holds(
    run: Run,
    step: int,
    truth: Truth,
    keys: Sequence[str] = GRADIENT_KEYS,
    rel: float = 1e-7,
    on_the_edge: float = 0.0,
) -> None:
    """Every reading of a step is what brute force says, over all parameters and for each.

    Args:
        run: The log.
        step: The step.
        truth: Brute force at the same parameters.
        keys: Readings to look at.
        rel: Relative tolerance.
        on_the_edge: Share of the elements that may be counted in the bin beside: float32 has other edges than float64.
    """
    D, size = truth.flat().shape[1], truth.mean_sq_norm() ** 0.5
    for key in keys:
        found = logged(run, key, step)
        assert found is not None, f"{key} is missing"
        if "hist" in key:
            gaps = np.abs(np.cumsum(found - expected(truth, key)))
            assert found.sum() == len(truth.losses) * D
            assert gaps.sum() <= on_the_edge * len(truth.losses) * D, f"{gaps.sum()} elements in another bin"
        else:
            assert found == pytest.approx(expected(truth, key), rel=rel), key
    layers = {
        "grad_norm": ("grad_norm", lambda name: truth.grad_norm([name]), rel * size),
        "norm_test.mean_sq_norm": ("norm_test", lambda name: truth.mean_sq_norm([name]), rel * size**2),
        "norm_test.grad_sq_norm": ("norm_test", lambda name: truth.grad_norm([name]) ** 2, rel * size**2),
    }
    for name in truth.gradients:
        for key, (instrument, value, absolute) in layers.items():
            if instrument in keys:
                found = by_layer(run, key, step)[name]
                assert found == pytest.approx(value(name), rel=rel, abs=absolute), f"{key} of {name}"
        if "grad_hist_1d" in keys:
            gaps = np.abs(np.cumsum(by_layer(run, "grad_hist_1d", step)[name] - truth.histogram(only=[name])))
            assert gaps.sum() <= on_the_edge * len(truth.losses) * D, name


def reasons(run: Run) -> dict[str, str]:
    """Why each instrument had no reading, by name: the events that stand on the panels."""
    return {event.subject: event.text for event in run._reader.events() if event.subject}


INDIVIDUAL = ("norm_test", "inner_test", "ortho_test", "grad_hist_1d")


def one_step(path: Path, model: nn.Module, step: Callable[[], object], **options: Any) -> Run:
    """A step that does not move, so that the truth can be asked for afterwards."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def whole(_: int) -> None:
        optimizer.zero_grad()
        step()
        optimizer.step()

    return record_steps(path, model, optimizer, range(1), whole, **options)


def withheld(run: Run, words: str) -> None:
    """Everything from individual gradients is missing, and the reason has these words in it."""
    for key in INDIVIDUAL:
        assert logged(run, key, 0) is None, key
        assert words in reasons(run)[key]
