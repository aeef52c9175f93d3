"""Sine waves to be fitted by a small network: the task of Alosily, 2023, sections 6.2 and 6.3."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cockpit.optim.learned.rule import Tensors
from cockpit.optim.learned.tasks import Task, fan_in_normal


@dataclass(frozen=True)
class Sines(Task):
    """``y = A sin(x − c)`` at random places ``x``, fitted by dense layers with ReLU under the mean squared error.

    Weights begin as those of the source's library do, see :func:`~cockpit.optim.learned.tasks.fan_in_normal`.

    Args:
        amplitudes: Range of ``A``.
        phases: Range of ``c``.
        reach: ``x`` lies between minus and plus so much.
        points: How many.
        widths: Of the layers, input and output included.
    """

    amplitudes: tuple[float, float] = (0.5, 2.0)
    phases: tuple[float, float] = (math.pi, math.pi)
    reach: float = 5.0
    points: int = 100
    widths: tuple[int, ...] = (1, 40, 40, 1)

    @property
    def name(self) -> str:  # type: ignore[override]
        """Which of them, in words."""
        return f"sines, phases {self.phases[0]:.3g} to {self.phases[1]:.3g}"

    @property
    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes of the network's parameters, as of an ``nn.Sequential`` with activations between."""
        found: list[tuple[str, tuple[int, ...]]] = []
        for layer, (inputs, outputs) in enumerate(pairwise(self.widths)):
            found += [(f"{2 * layer}.weight", (outputs, inputs)), (f"{2 * layer}.bias", (outputs,))]
        return tuple(found)

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensors, Tensors]:
        """New waves, and networks for them."""
        amplitude, phase = (
            low + (high - low) * torch.rand(count, 1, 1, generator=generator)
            for low, high in (self.amplitudes, self.phases)
        )
        x = self.reach * (2 * torch.rand(count, self.points, 1, generator=generator) - 1)
        params = {name: fan_in_normal(shape, generator, count) for name, shape in self.shapes}
        return params, {"x": x, "y": amplitude * torch.sin(x - phase)}

    def predict(self, params: Tensors, x: Tensor) -> Tensor:
        """The network's output. Shape ``[points, 1]``.

        Args:
            params: Of one network.
            x: Shape ``[points, 1]``.
        """
        layers = len(self.widths) - 1
        for layer in range(layers):
            x = torch.nn.functional.linear(x, params[f"{2 * layer}.weight"], params[f"{2 * layer}.bias"])
            x = x.relu() if layer < layers - 1 else x
        return x

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Mean squared error over all points."""
        return (self.predict(params, batch["x"]) - batch["y"]).square().mean()


TRAIN = Sines()
"""What the source learns update rules on: one phase."""

TEST = Sines(phases=(-math.pi, math.pi))
"""What it tries them on."""
