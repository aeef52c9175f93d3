"""Batches that come as objects: the batch size is in what they hold, or in what the first layer is called with."""

from __future__ import annotations

from collections import UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch.nn.functional as F
from capturing import agree, captured
from classifier import Y, mlp, truth_of
from torch import Tensor, nn

from cockpit.capture.batch_size import batch_sizes


@dataclass
class Data:
    x: Tensor
    y: Tensor


@dataclass
class Around:
    data: Data
    model: object = None


class Slots:
    __slots__ = ("x", "y")

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y


class Plain:
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.words, self.x, self.y = ["a batch"], x, y


class Hidden:
    """What it holds is nowhere to be seen."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.get = lambda: x

    @property
    def x(self) -> Tensor:
        return self.get()


Named = namedtuple("Named", "x y")
KINDS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], Tensor]]] = {
    "dataclass": (Data, lambda b: b.x),
    "dataclass in a dataclass": (lambda x, y: Around(Data(x, y)), lambda b: b.data.x),
    "object": (Plain, lambda b: b.x),
    "slots": (Slots, lambda b: b.x),
    "named tuple": (Named, lambda b: b.x),
    "dict": (lambda x, y: {"y": y, "x": x}, lambda b: b["x"]),
    "encoding": (lambda x, y: UserDict(x=x, y=y), lambda b: b["x"]),
    "nothing to be seen": (Hidden, lambda b: b.x),
}


class Model(nn.Module):
    def __init__(self, unpack: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.layers, self.unpack = mlp(), unpack

    def forward(self, batch: Any) -> Tensor:
        return self.layers(self.unpack(batch))


@pytest.mark.parametrize("kind", KINDS)
def test_batch_that_comes_as_an_object_is_read(kind: str, x: Tensor) -> None:
    pack, unpack = KINDS[kind]
    model = Model(unpack).double()
    truth = truth_of(model.layers, x)
    told = captured(model, lambda _: F.cross_entropy(model(pack(x, Y)), Y).backward())
    told.gradients = {name.removeprefix("layers."): rows for name, rows in told.gradients.items()}
    told.sq_norms, told.dots = {}, {}
    agree(told, truth)


def test_objects_that_hold_themselves_and_models_are_not_looked_into_for_ever(x: Tensor) -> None:
    around = Around(Data(x, Y), mlp())
    around.data.around = around  # type: ignore[attr-defined]
    assert batch_sizes((around,), {})[0] == tuple(x.shape)
    assert len(batch_sizes((around,), {})) == 2
