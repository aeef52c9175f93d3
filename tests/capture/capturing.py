"""Runs a capture over a step and lays everything that it told beside the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from reference import Truth
from torch import Tensor, nn

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.capture import Capture
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.individual.workspace import Workspace
from cockpit.capture.samples.layout import Layouts
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import ParameterTable

TIGHT = {"rtol": 1e-7, "atol": 1e-12}
"""Float64 against brute force."""

SINGLE = {"rtol": 1e-4, "atol": 1e-6}
"""A float32 model against the same truth in float64: what MATH.md asks of scalars."""


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
