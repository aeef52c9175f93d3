"""Layers that do not have a symmetry are left out, and the reason is the true one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import by_layer, logged, reasons, record
from symmetric import C, flat, loss, three_layers
from torch import Tensor, nn

RESCALE, SCALE, TRANSLATION = "rescale_symmetry", "scale_symmetry", "translation_symmetry"


class Around(nn.Module):
    """A residual connection around a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.around, self.out = nn.Linear(72, 4), nn.Linear(4, 4), nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        h = self.into(x).relu()
        return self.out((h + self.around(h)).relu())


class Twice(nn.Module):
    """One layer that is used two times."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.again, self.out = nn.Linear(72, 4), nn.Linear(4, 4), nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.again(self.again(self.into(x).relu()).relu()).relu())


def with_fixed_bias() -> nn.Module:
    model = flat(nn.Linear(72, 4), nn.ReLU(), nn.Linear(4, C))()
    model[1].bias.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (flat(nn.Linear(72, 4), nn.GELU(), nn.Linear(4, C)), r"1\.weight .*'Gelu', which does not keep factors"),
        (flat(nn.Linear(72, 4), nn.ReLU6(), nn.Linear(4, C)), r"1\.weight .*'Hardtanh'"),
        (flat(Around()), r"1\.around\.weight .*residual connection"),
        (flat(Twice()), r"1\.again\.weight, 1\.again\.bias \(it is used several times\)"),
        (with_fixed_bias, r"1\.weight \(its bias is no trained parameter of its own\)"),
    ],
    ids=["GELU", "ReLU6", "residual", "shared", "frozen bias"],
)
def test_layers_without_the_symmetry_are_left_out_with_the_reason(network: Any, words: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = record(tmp_path, network().double(), range(1), loss, instruments=[RESCALE, TRANSLATION])
    assert run[RESCALE].missing.all()
    found = reasons(run)[RESCALE]
    assert found.startswith("no unit lies between two layers with a ReLU")
    assert re.search(words, found), found
    assert logged(run, TRANSLATION, 0) < 1e-11


def test_what_is_left_out_beside_others_is_said_once(tmp_path: Path) -> None:
    run = record(tmp_path, three_layers(), range(2), loss, instruments=RESCALE)
    assert list(by_layer(run, RESCALE, 0)) == ["1.weight", "4.weight"]
    said = [event.text for event in run._reader.events() if event.subject == RESCALE]
    assert said == ["left out: 0.weight (batch normalisation follows it)"]


def penalised(model: nn.Module, _: Any) -> Tensor:
    return loss(model) + 0.1 * model[4].weight.square().sum()


def test_a_penalty_on_the_weights_is_no_symmetric_loss(tmp_path: Path) -> None:
    run = record(tmp_path, three_layers(), range(1), penalised, instruments=RESCALE)
    assert run[RESCALE].missing.all()
    assert "4.weight (it is used several times)" in reasons(run)[RESCALE]


@pytest.mark.parametrize(
    ("key", "network", "words"),
    [
        (SCALE, flat(nn.Linear(72, 4), nn.Linear(4, C)), "no layer lies before batch normalisation"),
        (SCALE, lambda: three_layers().eval(), "no layer lies before batch normalisation in training mode"),
        (TRANSLATION, flat(nn.Linear(72, C), nn.Tanh()), "no layer has outputs that go into a softmax"),
    ],
)
def test_without_such_a_layer_it_is_missing_with_the_reason(key: str, network: Any, words: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = record(tmp_path, network().double(), range(1), loss, instruments=key)
    assert run[key].missing.all()
    assert words in reasons(run)[key]
