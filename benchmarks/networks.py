"""The networks of DeepOBS that published overheads were taken on (Schneider et al., 2019), and those of Alosily, Loss
Scaling and Step Size in Deep Learning Optimization (2023), table 4.1. Needs nothing but torch."""

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


def two_convolutions(first: int, second: int) -> nn.Module:
    """Two convolutions and a dense layer for MNIST: A and B of table 4.1."""
    return nn.Sequential(
        *(nn.Conv2d(1, first, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(25 * second, 10)),
    )


def dense(*widths: int) -> nn.Module:
    """Dense layers with ReLU for MNIST: C and D of table 4.1, and a larger one."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in zip((784, *widths), widths, strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


LOSS_SCALED: dict[str, Callable[[], nn.Module]] = {
    "A": lambda: two_convolutions(32, 16),
    "B": lambda: two_convolutions(128, 64),
    "C": lambda: dense(16),
    "D": lambda: dense(128, 64),
    "MLP": lambda: dense(2560, 2560, 512, 256),
}
"""By their names in table 4.1: 8,954, 91,082, 12,730 and 109,386 parameters; ``MLP`` has 10,010,890."""
