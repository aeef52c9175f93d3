"""What a capture tells, and to whom."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.hooks.forward import ModuleOutput
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.second_order.loss_graph import LossGraph


class Receiver(Protocol):
    """Whoever is told what a backward pass brings."""

    def gradient(self, index: int, gradient: Tensor, backward: BackwardPass) -> None:
        """A parameter's gradient in this pass, raw."""

    def individual(self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass) -> None:
        """A parameter's individual gradients, raw."""

    def left_out(self, index: int, reason: str) -> None:
        """A parameter whose individual gradients cannot be had."""

    def before_backward(self, graph: LossGraph) -> None:
        """A backward pass is about to begin."""

    def end_pass(self, backward: BackwardPass) -> None:
        """The pass is over."""

    def model_called(self, batch: Tensor) -> None:
        """What the model is called with."""

    def module_called(self, output: ModuleOutput) -> None:
        """What a module returned."""
