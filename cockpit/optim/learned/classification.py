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

Activation = Literal["relu", "leaky_relu", "tanh", "norm_relu", "silu"]
"""Of hidden layers; ``norm_relu`` is a BatchNorm followed by a ReLU."""

Outer = Literal["training", "validation"]


class Classification(Task):
    """The cross entropy of a small network on mini-batches of images, drawn with replacement.

    Args:
        images: What is classified. Their validation part is what :meth:`valid_loss` looks at.
        channels: Of convolutions, 3 × 3 with stride 2, that come before the dense layers; none by default.
        hidden: Sizes of hidden dense layers.
        activation: Of them. BatchNorm normalises with the mini-batch's own moments, always.
        batch_size: Images in a mini-batch.
        outer: On which images the loss that meta-training minimises is computed.
        varied: Whether each problem sees the images at a contrast of its own, from a half to double, and a brightness
            of its own, from minus to plus a half.

    Raises:
        ValueError: If there is no such activation, or no such images for the outer loss.
    """

    def __init__(
        self,
        images: Images,
        *,
        channels: Sequence[int] = (),
        hidden: Sequence[int] = (20,),
        activation: Activation = "leaky_relu",
        batch_size: int = 128,
        outer: Outer = "training",
        varied: bool = False,
    ) -> None:
        if activation not in get_args(Activation) or outer not in get_args(Outer):
            raise ValueError(
                f"activations are {', '.join(get_args(Activation))}, outer losses {', '.join(get_args(Outer))}; got "
                f"{activation!r} and {outer!r}"
            )
        self.hidden, self.activation, self.batch_size, self.outer = tuple(hidden), activation, batch_size, outer
        self.channels, self.shape, self.varied = tuple(channels), images.shape, varied
        self.x, self.y = _tensors(images.x_train, images.y_train)
        self.x_valid, self.y_valid = _tensors(images.x_valid, images.y_valid)
        self.classes = images.classes
        convolutions = [f"conv{outputs}" for outputs in channels]
        widths = "-".join(map(str, (self.x.shape[1], *convolutions, *hidden, self.classes)))
        seen = ", varied" if varied else ""
        self.name = f"{images.name}, {widths} {activation}, batches of {batch_size}{seen}, {outer} loss"
        self._network = self.network().to("meta")

    def network(self) -> nn.Sequential:
        """A new one, with PyTorch's initial values. Input: ``[N, pixels]``."""
        layers: list[nn.Module] = [nn.Unflatten(1, self.shape)] if self.channels else []
        for inputs, outputs in pairwise((self.shape[0], *self.channels)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), *_activation(self.activation, outputs, 2)]
        layers += [nn.Flatten()] if self.channels else []
        height, width = (-(-size // 2 ** len(self.channels)) for size in self.shape[1:])
        sizes = ((*self.shape[:1], *self.channels)[-1] * height * width, *self.hidden)
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), *_activation(self.activation, outputs)]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], self.classes))

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensors, Tensors]:
        """New networks; all classify the same images."""
        data = {"problem": torch.arange(count)}
        if self.varied:
            contrast, brightness = 2 * torch.rand(2, count, generator=generator) - 1
            data |= {"contrast": contrast.exp2(), "brightness": brightness / 2}
        return stacked_parameters(self.network, count, generator), data

    def batch(self, data: Tensors, generator: torch.Generator) -> Tensors:
        """Numbers of images: ``train`` and ``valid``, shape ``[count, batch_size]``; and how they are seen."""
        size = (len(data["problem"]), self.batch_size)
        return {
            **{name: data[name] for name in ("contrast", "brightness") if self.varied},
            "train": torch.randint(len(self.x), size, generator=generator),
            "valid": torch.randint(len(self.x_valid), size, generator=generator),
        }

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Cross entropy on the training images."""
        return self._cross_entropy(params, self._seen(self.x, "train", batch), self.y[batch["train"]])

    def valid_loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Cross entropy on as many validation images."""
        return self._cross_entropy(params, self._seen(self.x_valid, "valid", batch), self.y_valid[batch["valid"]])

    def outer_loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """One of the two, as was asked for."""
        return self.loss(params, batch) if self.outer == "training" else self.valid_loss(params, batch)

    def _seen(self, images: Tensor, part: str, batch: Tensors) -> Tensor:
        found = images[batch[part]]
        return batch["contrast"] * found + batch["brightness"] if self.varied else found

    def _cross_entropy(self, params: Tensors, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(self._network, params, (x,)), y)


def _activation(name: Activation, features: int, axes: Literal[0, 2] = 0) -> list[nn.Module]:
    if name == "norm_relu":
        norm = nn.BatchNorm2d if axes else nn.BatchNorm1d
        return [norm(features, track_running_stats=False), nn.ReLU()]
    return [{"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "tanh": nn.Tanh, "silu": nn.SiLU}[name]()]


def _tensors(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(Images.scaled(pixels)).flatten(1), torch.from_numpy(labels)
