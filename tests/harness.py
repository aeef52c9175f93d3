"""Runs the engine, or the whole cockpit, over given steps and lays the result beside the truth."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import Truth
from torch import Tensor, nn

from cockpit import Cockpit, CockpitWarning, load_run
from cockpit.capture.backward import BackwardPass
from cockpit.capture.capture import Capture
from cockpit.capture.gradients import SampleGradients
from cockpit.capture.layout import Layouts
from cockpit.capture.loss_graph import LossGraph
from cockpit.capture.unavailable import Unavailable
from cockpit.capture.workspace import Workspace
from cockpit.parameters import ParameterTable
from cockpit.run import Run

torch.set_num_threads(1)  # networks of a few numbers: a second thread would only be waited for

TIGHT = {"rtol": 1e-7, "atol": 1e-12}
"""Float64 against brute force."""

SINGLE = {"rtol": 1e-4, "atol": 1e-6}
"""A float32 model against the same truth in float64: what MATH.md asks of scalars."""


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


@dataclass
class Captured:
    """What a capture told, materialised."""

    gradients: dict[str, Tensor] = field(default_factory=dict)
    sq_norms: dict[str, Tensor] = field(default_factory=dict)
    dots: dict[str, Tensor] = field(default_factory=dict)
    arrived: dict[str, Tensor] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    passes: list[BackwardPass] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    losses: Tensor | None = None
    weights: Tensor | None = None
    loss: float | None = None
    problem: str | None = None
    coupled: bool = False


class _Everything:
    """A receiver that materialises every individual gradient, and reduces it in closed form besides."""

    def __init__(self, table: ParameterTable, workspace: Workspace) -> None:
        self._table, self._workspace, self.told = table, workspace, Captured()

    def gradient(self, index: int, gradient: Tensor, backward: BackwardPass) -> None:
        self.told.arrived[self._table[index].name] = gradient.double() / backward.scale()

    def individual(self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass) -> None:
        name, shape = self._table[index].name, self._table[index].tensor.shape
        rows = torch.cat([rows.clone() for _, rows in gradients.rows(self._workspace)]).double()
        factors = backward.factors()
        self.told.gradients[name] = (rows * factors.unsqueeze(1)).view(-1, *shape)
        direction = torch.linspace(-1, 1, shape.numel()).view(shape).to(gradient)
        for kind, closed in (("sq_norms", gradients.sq_norms()), ("dots", gradients.dots(direction))):
            if closed is not None:
                getattr(self.told, kind)[name] = closed.double() * factors ** (2 if kind == "sq_norms" else 1)

    def left_out(self, index: int, reason: str) -> None:
        self.told.left_out[self._table[index].name] = reason

    def before_backward(self, graph: LossGraph) -> None:
        raise AssertionError("nobody asked for second derivatives")

    def end_pass(self, backward: BackwardPass) -> None:
        self.told.loss, self.told.passes = backward.loss(), [*self.told.passes, backward]
        self.told.coupled |= any(call.axis is not None and call.axis.coupled for call in backward.walked)
        try:
            individual = backward.individual()
            self.told.losses, self.told.weights = individual.values, individual.weights
        except Unavailable as reason:
            self.told.problem = str(reason)


def captured(
    model: nn.Module,
    step: Callable[[Capture], Any],
    limit: int = 1 << 28,
    layouts: Layouts | None = None,
    **options: Any,
) -> Captured:
    """Runs forward and backward pass under a capture.

    Args:
        model: The model; its gradients are cleared first.
        step: Given the capture (for ``register``), runs both passes.
        limit: Bytes of the workspace.
        layouts: What earlier steps found out.
        options: Of the capture.
    """
    model.zero_grad()
    table = ParameterTable(model, [torch.optim.SGD(model.parameters(), lr=0.1)])
    receiver = _Everything(table, Workspace(limit))
    capture = Capture(model, table, layouts or Layouts(), receiver, True, receiver.told.failures.append, **options)
    capture.open()
    try:
        step(capture)
    finally:
        capture.close()
    return receiver.told


def agree(told: Captured, truth: Truth, losses: bool = True, **tolerance: float) -> None:
    """Holds everything that a capture told against the truth, element by element.

    Args:
        told: The capture's side.
        truth: Brute force; parameters without any gradient may be absent on the other side.
        losses: Whether the individual losses are compared too.
        tolerance: Of the comparison; that of float64 if not given.
    """
    tolerance = tolerance or TIGHT
    assert not told.failures, told.failures
    assert not told.left_out, told.left_out
    for name, expected in truth.gradients.items():
        if name not in told.gradients:
            assert not expected.any(), f"{name} was not captured"
            continue
        rows = told.gradients[name]
        torch.testing.assert_close(rows, expected, **_scaled(tolerance, expected), msg=lambda m, n=name: f"{n}: {m}")
        if name in told.sq_norms:
            squares = expected.reshape(len(expected), -1).square().sum(1)
            torch.testing.assert_close(told.sq_norms[name], squares, **_scaled(tolerance, squares))
        if name in told.dots:
            direction = torch.linspace(-1, 1, expected[0].numel()).double()
            dots = (
                expected.reshape(len(expected), -1)
                @ direction.to(torch.float32 if tolerance is not TIGHT else torch.float64).double()
            )
            torch.testing.assert_close(told.dots[name], dots, **_scaled(tolerance, expected))
    if losses:
        assert told.losses is not None, told.problem
        torch.testing.assert_close(told.weights, truth.weights, **tolerance)
        counted = truth.weights > 0
        torch.testing.assert_close(told.losses[counted], truth.losses[counted], **tolerance)


def _scaled(tolerance: dict[str, float], like: Tensor) -> dict[str, float]:
    """Small elements of a large tensor are as exact as its large ones."""
    return {**tolerance, "atol": max(tolerance["atol"], tolerance["rtol"] * float(like.abs().max()))}


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
