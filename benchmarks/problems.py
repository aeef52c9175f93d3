"""The problems that overhead is measured on: those of DeepOBS that the published figures were taken on.

Sizes and layers are DeepOBS's (Schneider et al., 2019). Data are real where they are found, standard normal otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cockpit.datasets import Images, from_npz, mnist


def cnn_3c3d() -> nn.Module:
    """3c3d for CIFAR-10: three convolutions and three dense layers; 895,210 parameters."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)  # ceil_mode pads at the end, as "same" does

    return nn.Sequential(
        *(nn.Conv2d(3, 64, 5), nn.ReLU(), pool()),
        *(nn.Conv2d(64, 96, 3), nn.ReLU(), pool()),
        *(nn.Conv2d(96, 128, 3, padding=1), nn.ReLU(), pool()),
        *(nn.Flatten(), nn.Linear(1152, 512), nn.ReLU()),
        *(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)),
    )


def cnn_2c2d() -> nn.Module:
    """2c2d for Fashion-MNIST: two convolutions and two dense layers; 3,274,634 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(3136, 1024), nn.ReLU(), nn.Linear(1024, 10)),
    )


def mlp() -> nn.Module:
    """Multi-layer perceptron for MNIST, 784-1000-500-100-10; 1,336,610 parameters."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, 1000), nn.ReLU()),
        *(nn.Linear(1000, 500), nn.ReLU()),
        *(nn.Linear(500, 100), nn.ReLU(), nn.Linear(100, 10)),
    )


def logistic_regression() -> nn.Module:
    """Logistic regression for MNIST; 7,850 parameters."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


@dataclass(frozen=True)
class Problem:
    """One network with its data.

    Args:
        name: As the reference tables call it.
        model: Makes the network.
        shape: Channels, height and width of an image.
        file: The real data's place under the data directory.
        read: Reads it.
        learning_rate: For plain SGD.
    """

    name: str
    model: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    file: str
    read: Callable[[Path], Images]
    learning_rate: float = 0.01

    def batches(
        self, count: int, batch_size: int, data: Path | None, seed: int = 0
    ) -> tuple[list[tuple[Tensor, Tensor]], str]:
        """``count`` batches of images ``[batch_size, *shape]`` and classes, and in words where they come from."""
        generator = torch.Generator().manual_seed(seed)
        if data is None or not (data / self.file).exists():
            x = torch.randn(count * batch_size, *self.shape, generator=generator)
            y = torch.randint(10, (count * batch_size,), generator=generator)
            source = "random numbers"
        else:
            images = self.read(data / self.file)
            picked = torch.randint(len(images.x_train), (count * batch_size,), generator=generator)
            x = torch.from_numpy(Images.scaled(images.x_train[picked.numpy()]))
            y = torch.from_numpy(images.y_train)[picked]
            source = images.name
        return list(zip(x.split(batch_size), y.split(batch_size), strict=True)), source


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("cifar10_3c3d", cnn_3c3d, (3, 32, 32), "cifar10_subset.npz", from_npz),
        # MNIST stands in for Fashion-MNIST: same shapes, same cost.
        Problem("fmnist_2c2d", cnn_2c2d, (1, 28, 28), "mnist", mnist),
        Problem("mnist_mlp", mlp, (1, 28, 28), "mnist", mnist),
        Problem("mnist_logreg", logistic_regression, (1, 28, 28), "mnist", mnist),
    )
}
