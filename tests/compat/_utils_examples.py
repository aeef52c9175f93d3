"""What Algorithm C.1 imports from beside it: a small network, real images, and where to log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from cockpit.datasets import mnist


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 2, 5, stride=3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(12, 10)),
    )


def fmnist_data(batch_size: int = 32) -> Iterator[tuple[Tensor, Tensor]]:
    """MNIST, which has the form of FashionMNIST."""
    images = mnist(Path(os.environ["COCKPIT_DATA"]) / "mnist")
    for start in range(0, 60 * batch_size, batch_size):
        part = slice(start, start + batch_size)
        yield torch.from_numpy(images.scaled(images.x_train[part])), torch.from_numpy(images.y_train[part])


def get_logpath() -> str:
    return str(Path.cwd() / "logs" / "mnist_cnn__sgd")
