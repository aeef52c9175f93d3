"""The problems that overhead is measured on. Data are real where they are found, standard normal otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from networks import NETWORKS
from torch import Tensor, nn

from cockpit.datasets import Images, from_npz, mnist


@dataclass(frozen=True)
class Problem:
    """One network with its data.

    Args:
        name: As the reference tables call it.
        shape: Channels, height and width of an image.
        file: The real data's place under the data directory.
        read: Reads it.
        learning_rate: For plain SGD.
    """

    name: str
    shape: tuple[int, int, int]
    file: str
    read: Callable[[Path], Images]
    learning_rate: float = 0.01

    def model(self) -> nn.Module:
        """The network, newly initialised."""
        return NETWORKS[self.name]()

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
        Problem("cifar10_3c3d", (3, 32, 32), "cifar10_subset.npz", from_npz),
        # MNIST stands in for Fashion-MNIST: same shapes, same cost.
        Problem("fmnist_2c2d", (1, 28, 28), "mnist", mnist),
        Problem("mnist_mlp", (1, 28, 28), "mnist", mnist),
        Problem("mnist_logreg", (1, 28, 28), "mnist", mnist),
    )
}
