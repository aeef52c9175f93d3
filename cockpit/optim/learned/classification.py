"""Images to be classified by small dense networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from cockpit.datasets import Images
from cockpit.optim.learned.rule import Tensors
from cockpit.optim.learned.tasks import Task, stacked_parameters

Activation = Literal["relu", "leaky_relu", "tanh", "norm_relu"]
"""Of hidden layers; ``norm_relu`` is a BatchNorm followed by a ReLU."""

Outer = Literal["training", "validation"]


class Classification(Task):
    """The cross entropy of a dense network on mini-batches of images, drawn with replacement.

    Args:
        images: What is classified. Their validation part is what :meth:`valid_loss` looks at.
        hidden: Sizes of hidden layers.
        activation: Of them. BatchNorm normalises with the mini-batch's own moments, always.
        batch_size: Images in a mini-batch.
        outer: On which images the loss that meta-training minimises is computed.

    Raises:
        ValueError: If there is no such activation, or no such images for the outer loss.
    """

    def __init__(
        self,
        images: Images,
        *,
        hidden: Sequence[int] = (20,),
        activation: Activation = "leaky_relu",
        batch_size: int = 128,
        outer: Outer = "training",
    ) -> None:
        if activation not in get_args(Activation) or outer not in get_args(Outer):
            raise ValueError(
                f"activations are {', '.join(get_args(Activation))}, outer losses {', '.join(get_args(Outer))}; got "
                f"{activation!r} and {outer!r}"
            )
        self.hidden, self.activation, self.batch_size, self.outer = tuple(hidden), activation, batch_size, outer
        self.x, self.y = _tensors(images.x_train, images.y_train)
        self.x_valid, self.y_valid = _tensors(images.x_valid, images.y_valid)
        self.classes = images.classes
        widths = "-".join(map(str, (self.x.shape[1], *hidden, self.classes)))
        self.name = f"{images.name}, {widths} {activation}, batches of {batch_size}, {outer} loss"
        self._network = self.network().to("meta")

    def network(self) -> nn.Sequential:
        """A new one, with PyTorch's initial values. Input: ``[N, pixels]``."""
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((self.x.shape[1], *self.hidden)):
            layers += [nn.Linear(inputs, outputs), *_activation(self.activation, outputs)]
        return nn.Sequential(*layers, nn.Linear(self.hidden[-1] if self.hidden else self.x.shape[1], self.classes))

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensors, Tensors]:
        """New networks; all classify the same images."""
        return stacked_parameters(self.network, count, generator), {"problem": torch.arange(count)}

    def batch(self, data: Tensors, generator: torch.Generator) -> Tensors:
        """Numbers of images: ``train`` and ``valid``, shape ``[count, batch_size]``."""
        size = (len(data["problem"]), self.batch_size)
        return {
            "train": torch.randint(len(self.x), size, generator=generator),
            "valid": torch.randint(len(self.x_valid), size, generator=generator),
        }

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Cross entropy on the training images."""
        return self._cross_entropy(params, self.x[batch["train"]], self.y[batch["train"]])

    def valid_loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Cross entropy on as many validation images."""
        return self._cross_entropy(params, self.x_valid[batch["valid"]], self.y_valid[batch["valid"]])

    def outer_loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """One of the two, as was asked for."""
        return self.loss(params, batch) if self.outer == "training" else self.valid_loss(params, batch)

    def _cross_entropy(self, params: Tensors, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(self._network, params, (x,)), y)


def _activation(name: Activation, features: int) -> list[nn.Module]:
    if name == "norm_relu":
        return [nn.BatchNorm1d(features, track_running_stats=False), nn.ReLU()]
    return [{"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "tanh": nn.Tanh}[name]()]


def _tensors(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(Images.scaled(pixels)).flatten(1), torch.from_numpy(labels)
