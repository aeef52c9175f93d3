"""The cockpit's own individual gradients and BackPACK's lead to the same log."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import record
from torch import Tensor, nn

from cockpit import Cockpit, CockpitWarning
from cockpit.instrument import configured
from cockpit.layers import Layers
from cockpit.run import Quantity, Run
from cockpit.testing.trajectory import TRAININGS, Training, trajectory, untouched

STEPS, N = 4, 6


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x).relu_())


NETWORKS = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)), (6,)),
    "residual": (lambda: nn.Sequential(Residual(), Residual(), nn.Linear(6, 3)), (6,)),
    "convolutions": (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2, groups=2)),
            *(nn.Sigmoid(), nn.Flatten(), nn.Linear(16, 3)),
        ),
        (2, 6, 6),
    ),
    "batch statistics": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)),
        (6,),
    ),
}


def recorded(path: Path, name: str, backend: str) -> Run:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model = make().double()
    batches = [(torch.randn(N, *shape).double(), torch.randint(3, (N,))) for _ in range(STEPS)]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss = lambda m, batch: F.cross_entropy(m(batch[0]), batch[1])  # noqa: E731
    return record(path / backend, model, batches, loss, optimizer, instruments="business", backend=backend)


def alike(key: str, one: Quantity | Layers, other: Quantity | Layers) -> None:
    np.testing.assert_array_equal(one.steps, other.steps, err_msg=key)
    np.testing.assert_array_equal(one.missing, other.missing, err_msg=key)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-7, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_reading_of_business_is_the_same(tmp_path: Path, name: str) -> None:
    own, other = recorded(tmp_path, name, "cockpit"), recorded(tmp_path, name, "backpack")
    assert {cls.name for cls in configured("business")} <= set(own.keys())
    assert own.keys() == other.keys()
    for key in own.keys():  # noqa: SIM118, not a dict
        if key in ("time", "cockpit.overhead"):
            continue
        alike(key, own[key], other[key])
        if own[key].layers is not None:
            assert own[key].layers.names == other[key].layers.names
            alike(key, own[key].layers, other[key].layers)
    assert own["norm_test"].missing.sum() == 0, "a reading that is missing agrees with anything"


def test_another_backend_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="backend is 'cockpit' or 'backpack', got 'torch'"):
        Cockpit(model, torch.optim.SGD(model.parameters()), run=tmp_path / "run", backend="torch")


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_training_under_backpack_is_the_same_to_the_last_bit(training: Training, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CockpitWarning)  # it leaves out attention and normalisation
        touched = trajectory(
            training, "cpu", instruments="business", backend="backpack", run=tmp_path / "run", track=training.track
        )
    for step, (mine, plain) in enumerate(zip(touched, untouched(training, "cpu"), strict=True)):
        assert [name for name in plain if mine.get(name) != plain[name]] == [], f"step {step}"
