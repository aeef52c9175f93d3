"""The networks of DeepOBS that published overheads were taken on (Schneider et al., 2019). Needs nothing but torch."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


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


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cifar10_3c3d": cnn_3c3d,
    "fmnist_2c2d": cnn_2c2d,
    "mnist_mlp": mlp,
    "mnist_logreg": logistic_regression,
}
"""By the names of the problems that they solve."""
