"""What the hierarchical optimizer sees of a training: of each coordinate, of each tensor, of the losses and the time.

L. Metz et al., *Tasks, stability, architecture, and compute: Training more effective learned optimizers, and using
them to train themselves* (2020); what is chosen here stands in the documentation of the learned optimizers.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor

from cockpit.optim.learned.rule import Tensors

TIMES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
"""Numbers of steps at whose scales the embedding of the time tells moments apart."""

_SMALL = 1e-8
"""Gradients of this size count as zero."""

_LOSS_DECAY = 0.9

_NO_SPREAD = 1e-3
"""A standard deviation that is this part of a loss counts as none: rounding must not be seen as a change."""

Averages: TypeAlias = Tensors
"""Of the two losses, ``mean``, ``variance``, and the ``weight`` that these have so far; of a tensor, at each decay,
``momenta`` and ``squares``. All start from zero."""


def decayed(averages: Averages, gradient: Tensor, decays: tuple[float, ...]) -> Averages:
    r"""Running averages of a gradient, :math:`m \leftarrow \beta m + (1 - \beta) g`, and of its square.

    Args:
        averages: So far. Shape ``[decays, coordinates]`` each.
        gradient: Shape ``[coordinates]``.
        decays: Each :math:`\beta`.
    """
    beta = torch.tensor(decays, dtype=gradient.dtype, device=gradient.device)[:, None]
    return {
        "momenta": beta * averages["momenta"] + (1 - beta) * gradient,
        "squares": beta * averages["squares"] + (1 - beta) * gradient.square(),
    }


def coordinate_features(gradient: Tensor, parameter: Tensor, averages: Averages) -> Tensor:
    """Of each coordinate: gradient, weight, momenta, rms, and momenta over rms.

    Each feature is divided by its root mean square over the tensor, halved, and cut off at −1 and 1. So neither the
    scale of the gradients nor that of the weights is seen here.

    Args:
        gradient: Shape ``[P]``.
        parameter: Shape ``[P]``.
        averages: Of the tensor, the gradient included. Shape ``[K, P]`` each.

    Returns:
        Shape ``[P, 2 + 3 K]``.
    """
    momenta, rms = averages["momenta"], _rms(averages)
    features = torch.cat([gradient[None], parameter[None], momenta, rms, momenta / rms])
    scale = (features.square().mean(dim=1, keepdim=True) + _SMALL**2).rsqrt()
    return (features * scale / 2).clamp(-1, 1).mT


def tensor_features(gradient: Tensor, parameter: Tensor, averages: Averages, dimensions: int) -> Tensor:
    """Of a tensor: how large gradient, weights, momenta and rms are, how the gradient agrees with the momenta, and the
    tensor's size.

    Args:
        gradient: Shape ``[P]``.
        parameter: Shape ``[P]``.
        averages: Of the tensor, the gradient included. Shape ``[K, P]`` each.
        dimensions: Of the tensor.

    Returns:
        A tenth of the logarithms of the root mean squares of gradient, weights, momenta and rms; cosines between the
        gradient and each momentum; a tenth of the logarithm of the number of coordinates; and 1 for a matrix or more,
        −1 for a vector. Shape ``[4 + 3 K]``.
    """
    momenta, rms = averages["momenta"], _rms(averages)
    rows = torch.cat([gradient[None], parameter[None], momenta, rms])
    sizes = (rows.square().mean(dim=1) + _SMALL**2).log() / 20
    lengths = (gradient.square().sum() + _SMALL**2).sqrt() * (momenta.square().sum(dim=1) + _SMALL**2).sqrt()
    cosines = momenta @ gradient / lengths
    form = torch.tensor([math.log(gradient.numel()) / 10, 1.0 if dimensions > 1 else -1.0])
    return torch.cat([sizes, cosines, form.to(sizes)])


def loss_features(averages: Averages, losses: Tensor) -> tuple[Tensor, Averages]:
    """How far each loss is from its running average, in standard deviations, cut off at −5 and 5. The scale of the
    losses is not seen.

    Args:
        averages: So far. Shape ``[2]`` each.
        losses: Training and validation loss. Shape ``[2]``.

    Returns:
        Shape ``[2]``, zero at the first step; and the averages with these losses.
    """
    weight = _LOSS_DECAY * averages["weight"] + (1 - _LOSS_DECAY)
    mean = _LOSS_DECAY * averages["mean"] + (1 - _LOSS_DECAY) * losses
    variance = _LOSS_DECAY * averages["variance"] + (1 - _LOSS_DECAY) * (losses - mean / weight).square()
    spread = variance / weight + (_NO_SPREAD * mean / weight).square() + _SMALL**2
    return ((losses - mean / weight) * spread.rsqrt()).clamp(-5, 5), {
        "weight": weight,
        "mean": mean,
        "variance": variance,
    }


def time_features(step: Tensor) -> Tensor:
    r"""The time as :math:`\sin(t / (\pi T))` at many time scales :math:`T`.

    The source's listing has :math:`\sin(t T / \pi)`, whose periods of twenty steps and less say nothing of how long a
    training has been going on.

    Args:
        step: Number of updates so far. Shape ``[]``.

    Returns:
        Shape ``[11]``.
    """
    return torch.sin(step / (math.pi * torch.tensor(TIMES, dtype=step.dtype, device=step.device)))


def _rms(averages: Averages) -> Tensor:
    return (averages["squares"] + _SMALL**2).sqrt()
