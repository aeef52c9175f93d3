"""What learned optimizers are tried on: each task differs in one thing from what they were learned on, or in all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from cockpit.datasets import Images, from_npz, mnist
from cockpit.optim.learned import Classification, Task, Tensors, stacked_parameters

STEPS = 200
"""Of the longest trainings that LearnedAdam was learned on."""


class Block(nn.Module):
    """A layer of a Transformer: attention to what came before, and two dense layers, each after a LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.attention = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.before_dense = nn.LayerNorm(width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        parts = self.attention(self.before_attention(x)).reshape(n, length, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind()
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(later, -math.inf)
        x = x + self.joined((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width))
        return x + self.dense(self.before_dense(x))


class Transformer(nn.Module):
    """Characters to scores of the characters that follow."""

    def __init__(self, characters: int, length: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(characters, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.scores = nn.LayerNorm(width), nn.Linear(width, characters)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.norm(self.blocks(self.characters(x) + self.places.weight)))


class Text(Task):
    """The next character of a text. Its last tenth is for validation.

    Args:
        path: Of the text.
    """

    def __init__(self, path: Path, *, length: int = 32, batch_size: int = 8, width: int = 32) -> None:
        known, codes = np.unique(list(path.read_text(encoding="utf-8")), return_inverse=True)
        codes = torch.from_numpy(codes.astype(np.int64))
        self.parts = {"train": codes[: len(codes) * 9 // 10], "valid": codes[len(codes) * 9 // 10 :]}
        self.length, self.batch_size = length, batch_size
        self._network = partial(Transformer, len(known), length, width, heads=4, layers=2)
        self._blank = self.network().to("meta")
        self.name = f"{path.stem}, Transformer of width {width}"

    def network(self) -> nn.Module:
        """A new one."""
        return self._network()

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensors, Tensors]:
        """New networks for the same text."""
        return stacked_parameters(self.network, count, generator), {"problem": torch.arange(count)}

    def batch(self, data: Tensors, generator: torch.Generator) -> Tensors:
        """Where pieces of text start. Shape ``[count, batch_size]``."""
        size = (len(data["problem"]), self.batch_size)
        return {
            part: torch.randint(len(codes) - self.length, size, generator=generator)
            for part, codes in self.parts.items()
        }

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Cross entropy, in nats for each character."""
        return self._cross_entropy(params, batch, "train")

    def valid_loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """The same on what is for validation."""
        return self._cross_entropy(params, batch, "valid")

    def _cross_entropy(self, params: Tensors, batch: Tensors, part: str) -> Tensor:
        pieces = self.parts[part][batch[part][:, None] + torch.arange(self.length + 1)]
        scores = functional_call(self._blank, params, (pieces[:, :-1],))
        return nn.functional.cross_entropy(scores.flatten(0, 1), pieces[:, 1:].flatten())


@dataclass(frozen=True)
class Cell:
    """A task, and how long it is trained on.

    Args:
        name: What is different, in a word or two.
        words: What it is.
        task: Makes it, given the folder of the data.
        steps: Of a training.
    """

    name: str
    words: str
    task: Callable[[Path], Classification | Text]
    steps: int = STEPS


def _classification(images: Callable[[Path], Images], **options: object) -> Callable[[Path], Classification]:
    made = {"hidden": (64, 64), "activation": "relu", "batch_size": 64, **options}
    return lambda folder: Classification(images(folder), **made)  # type: ignore[arg-type]


def _digits(folder: Path) -> Images:
    return mnist(folder / "mnist").shrunk(2)


def _photographs(folder: Path) -> Images:
    return from_npz(folder / "cifar10_subset.npz").shrunk(4)


CELLS = {
    cell.name: cell
    for cell in (
        Cell("seen data", "MNIST, 196-64-64-10 ReLU", _classification(_digits)),
        Cell("data", "CIFAR-10, 192-64-64-10 ReLU", _classification(_photographs)),
        Cell("width", "CIFAR-10, 192-256-256-10 ReLU", _classification(_photographs, hidden=(256, 256))),
        Cell("depth", "CIFAR-10, 192-8×64-10 ReLU", _classification(_photographs, hidden=(64,) * 8)),
        Cell("activation", "CIFAR-10, 192-64-64-10 SiLU", _classification(_photographs, activation="silu")),
        Cell(
            "convolutions",
            "CIFAR-10, two convolutions, 16 and 32 channels, and a dense layer of 64",
            _classification(_photographs, channels=(16, 32), hidden=(64,)),
        ),
        Cell(
            "text", "tiny Shakespeare, Transformer, two layers of width 32", lambda f: Text(f / "tinyshakespeare.txt")
        ),
        Cell("twice as long", "CIFAR-10, 192-64-64-10 ReLU", _classification(_photographs), 2 * STEPS),
        Cell("five times as long", "CIFAR-10, 192-64-64-10 ReLU", _classification(_photographs), 5 * STEPS),
    )
}
