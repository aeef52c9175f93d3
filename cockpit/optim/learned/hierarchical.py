"""The hierarchical optimizer: a recurrent network of each tensor advises a small network of each coordinate."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cockpit.datasets import Images, digits
from cockpit.optim.learned.classification import Classification
from cockpit.optim.learned.features import (
    TIMES,
    coordinate_features,
    decayed,
    loss_features,
    tensor_features,
    time_features,
)
from cockpit.optim.learned.lstm import lstm, lstm_weights, uniform
from cockpit.optim.learned.optimizer import LearnedOptimizer
from cockpit.optim.learned.pes import PES
from cockpit.optim.learned.recipe import Recipe
from cockpit.optim.learned.rule import SHARED, Rule, Signals, State, Tensors
from cockpit.optim.learned.sines import Sines

_MEMORY = "memory."
"""What the names of the recurrent network's weights begin with."""


@dataclass(frozen=True)
class HierarchicalRule(Rule):
    r"""An LSTM per tensor, and a small network per coordinate that is told what the LSTM makes of the tensor.

    The network returns a direction b and a magnitude a: :math:`\theta \leftarrow \theta - s\, e^a b`. Before anything
    is learned b is a momentum over its rms, and a is 0.

    Args:
        decays: Of the momenta, and of the averages of squared gradients.
        memory: Hidden units of the LSTM.
        context: How many numbers the LSTM tells the network.
        hidden: Units of the network's two hidden layers.
        step_size: s.
    """

    name = "hierarchical"
    needs = frozenset({"loss", "valid_loss"})

    decays: tuple[float, ...] = (0.9, 0.99, 0.999)
    memory: int = 16
    context: int = 8
    hidden: int = 16
    step_size: float = 0.01

    def meta_parameters(self, generator: torch.Generator) -> Tensors:
        """Weights of the LSTM, of what it tells, and of the network, which does nothing at first; ``skip`` leads past
        it, and has the first momentum over its rms as its direction."""
        of_tensor, of_coordinate = 6 + 3 * len(self.decays), 2 + 3 * len(self.decays)
        told = len(TIMES) + 1 + self.context
        memory = lstm_weights([of_tensor, self.memory], generator)
        skip = torch.zeros(2, of_coordinate)
        skip[1, 2 + 2 * len(self.decays)] = 1
        return {
            **{_MEMORY + name: weight for name, weight in memory.items()},
            "context": uniform([self.context, self.memory], 1 / math.sqrt(self.memory), generator),
            "first": uniform([self.hidden, of_coordinate], 1 / math.sqrt(of_coordinate), generator),
            "told": uniform([self.hidden, told], 1 / math.sqrt(told), generator),
            "first.bias": torch.zeros(self.hidden),
            "second": uniform([self.hidden, self.hidden], 1 / math.sqrt(self.hidden), generator),
            "second.bias": torch.zeros(self.hidden),
            "last": torch.zeros(2, self.hidden),
            "last.bias": torch.zeros(2),
            "skip": skip,
        }

    def init(self, params: Tensors) -> State:
        """Of each tensor: ``momenta`` and ``squares``, shape ``[decays, coordinates]``, and the LSTM's ``hidden`` and
        ``cell``, shape ``[memory]``. Of all: averages of the two losses."""
        device = next(iter(params.values())).device
        state: State = {SHARED: {part: torch.zeros(2, device=device) for part in ("weight", "mean", "variance")}}
        for name, p in params.items():
            sizes = {
                "momenta": (len(self.decays), p.numel()),
                "squares": (len(self.decays), p.numel()),
                "hidden": (self.memory,),
                "cell": (self.memory,),
            }
            state[name] = {part: torch.zeros(size, device=p.device) for part, size in sizes.items()}
        return state

    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        """θ − s · exp(a) · b."""
        losses, shared = loss_features(state[SHARED], torch.stack([signals.loss, signals.valid_loss]))
        flat = {name: _flat(meta, gradients[name], p) for name, p in params.items()}
        averages = {name: decayed(state[name], gradient, self.decays) for name, (gradient, _) in flat.items()}
        rows = [
            torch.cat([tensor_features(*flat[name], averages[name], p.dim()), losses]) for name, p in params.items()
        ]
        hidden, cell = (torch.stack([state[name][part] for name in params])[None] for part in ("hidden", "cell"))
        weights = {name.removeprefix(_MEMORY): w for name, w in meta.items() if name.startswith(_MEMORY)}
        hidden, cell = lstm(weights, torch.stack(rows), hidden, cell)
        number = torch.full_like(signals.step, math.log(len(params)) - 1)
        everywhere = torch.cat([time_features(signals.step), number[None]])
        updated, after = {}, {SHARED: shared}
        for k, (name, p) in enumerate(params.items()):
            told = torch.cat([everywhere, meta["context"] @ hidden[-1, k]])
            a, b = _network(meta, coordinate_features(*flat[name], averages[name]), told)
            updated[name] = p - self.step_size * (a.exp() * b).reshape(p.shape)
            after[name] = {**averages[name], "hidden": hidden[-1, k], "cell": cell[-1, k]}
        return updated, after


def _flat(meta: Tensors, gradient: Tensor, parameter: Tensor) -> tuple[Tensor, Tensor]:
    precision = meta["skip"].dtype
    return gradient.reshape(-1).to(precision), parameter.reshape(-1).to(precision)


def _network(meta: Tensors, features: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitude and direction of each coordinate, from its features, shape ``[P, F]``, and what all coordinates of the
    tensor are told, shape ``[T]``."""
    first = torch.relu(features @ meta["first"].mT + (meta["told"] @ told + meta["first.bias"]))
    second = torch.relu(first @ meta["second"].mT + meta["second.bias"])
    outputs = second @ meta["last"].mT + meta["last.bias"] + features @ meta["skip"].mT
    a, b = outputs.unbind(dim=-1)
    return a, b


class Hierarchical(LearnedOptimizer):
    """A learned optimizer that also looks at the weights, at the time, and at the training and the validation loss::

        loss.backward()
        optimizer.tell(loss=loss, valid_loss=valid_loss)  # the last that is known
        optimizer.step()

    Keeps ``2 · decays`` numbers for each coordinate, 6 at the default settings, and ``2 · memory`` for each tensor.

    L. Metz et al., *Tasks, stability, architecture, and compute: Training more effective learned optimizers, and using
    them to train themselves*, 2020.

    Args:
        params: As for any optimizer.
        weights: Of a meta-training, or where its file lies.
        lr: What the learned updates are multiplied with.

    Raises:
        ValueError: If the weights are those of another rule, or a parameter is complex.
    """

    rule_type = HierarchicalRule


def recipe(images: Images | None = None) -> Recipe:
    """Small networks of several widths and activations on images and on sine waves; the mean validation loss of whole
    trainings, by persistent evolution strategies.

    Args:
        images: By default scikit-learn's digits.
    """
    images = digits() if images is None else images
    return Recipe(
        name="hierarchical",
        rule=HierarchicalRule(),
        tasks=(
            Classification(images, hidden=(20,), activation="relu", batch_size=64, outer="validation"),
            Classification(images, hidden=(16, 16), activation="tanh", batch_size=64, outer="validation"),
            Sines(widths=(1, 20, 20, 1)),
        ),
        estimator=PES(length=10, sigma=0.01),
        copies=8,
        horizon=100,
        iterations=500,
        optimizer=functools.partial(torch.optim.Adam, lr=3e-3),
        clip=1.0,
    )
