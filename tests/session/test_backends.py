"""The cockpit's own individual gradients and BackPACK's lead to the same log."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import reasons, record
from torch import Tensor, nn

from cockpit import Cockpit, CockpitWarning
from cockpit.instrument import configured
from cockpit.instruments import HessTrace, TICDiag, TICTrace
from cockpit.layers import Layers
from cockpit.logged import Quantity
from cockpit.run import Run
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
        # BackPACK adds samples up, and does not tell how far they spread.
        if key in ("time", "cockpit.overhead", "hess_trace.error", "hess_trace.layer_error"):
            continue
        alike(key, own[key], other[key])
        if own[key].layers is not None:
            assert own[key].layers.names == other[key].layers.names
            alike(key, own[key].layers, other[key].layers)
    assert own["norm_test"].missing.sum() == 0, "a reading that is missing agrees with anything"


SMOOTH = {
    "images": (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2, groups=2, bias=False)),
            *(nn.Sigmoid(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, 3)),
        ),
        (2, 6, 6),
    ),
    "rectified images": (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 4, 3, stride=2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 4)),
            *(nn.LeakyReLU(0.2), nn.Linear(4, 3)),
        ),
        (2, 6, 6),
    ),
    "perceptron": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ELU(), nn.Linear(5, 4), nn.SELU(), nn.Linear(4, 3)), (6,)),
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss_name", ["cross_entropy", "mse_loss"])
@pytest.mark.parametrize("name", SMOOTH)
def test_every_diagonal_is_the_same(tmp_path: Path, name: str, loss_name: str, reduction: str) -> None:
    make, shape = SMOOTH[name]

    def readings(backend: str) -> Run:
        torch.manual_seed(0)
        model = make().double()
        targets = torch.randint(3, (N,)) if loss_name == "cross_entropy" else torch.randn(N, 3).double()
        batches = [(torch.randn(N, *shape).double(), targets) for _ in range(2)]
        instruments = [
            kind(curvature) for curvature, kind in [("hessian", TICDiag), ("ggn", TICTrace), ("ggn_mc", HessTrace)]
        ]
        torch.manual_seed(1)
        return record(
            tmp_path / backend,
            model,
            batches,
            lambda m, batch: getattr(F, loss_name)(m(batch[0]), batch[1], reduction=reduction),
            torch.optim.SGD(model.parameters(), lr=0.01),
            instruments=instruments,
            backend=backend,
        )

    own, other = readings("cockpit"), readings("backpack")
    assert all(quantity.missing.sum() == 0 for quantity in (own["tic_diag"], own["tic_trace"], own["hess_trace"]))
    for key in ("tic_diag", "tic_trace", "hess_trace", "tic_diag.left_out", "tic_trace.hess_trace"):
        if own[key].layers is not None:
            alike(key, own[key].layers, other[key].layers)
        else:
            alike(key, own[key], other[key])
    assert reasons(other) == {}, "nothing but BackPACK was asked"


def test_curvature_that_backpack_does_not_know_is_the_cockpits_own_and_says_so(tmp_path: Path) -> None:
    run = recorded(tmp_path, "residual", "backpack")
    assert reasons(run)["hess_trace"] == (
        "BackPACK does not know the way, so the cockpit went its own: 'AddBackward0' is no layer that stands in a row"
    )
    assert run["hess_trace"].missing.sum() == 0


def test_another_backend_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="backend is 'cockpit' or 'backpack', got 'torch'"):
        Cockpit(model, torch.optim.SGD(model.parameters()), run=tmp_path / "run", backend="torch")


PLAIN_AND_SCALED = ("SGD", "two micro-batches", "gradient scaler and clipping")
"""The others take minutes: a Hessian product for every parameter."""


@pytest.mark.parametrize("training", [t for t in TRAININGS if str(t) in PLAIN_AND_SCALED], ids=str)
def test_training_under_the_exact_hessian_is_the_same_to_the_last_bit(training: Training, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CockpitWarning)  # what cannot be differentiated twice has none
        touched = trajectory(
            training, "cpu", instruments=[HessTrace("hessian")], run=tmp_path / "run", track=training.track
        )
    for step, (mine, plain) in enumerate(zip(touched, untouched(training, "cpu"), strict=True)):
        assert [name for name in plain if mine.get(name) != plain[name]] == [], f"step {step}"


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_training_under_backpack_is_the_same_to_the_last_bit(training: Training, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CockpitWarning)  # it leaves out attention and normalisation
        touched = trajectory(
            training, "cpu", instruments="business", backend="backpack", run=tmp_path / "run", track=training.track
        )
    for step, (mine, plain) in enumerate(zip(touched, untouched(training, "cpu"), strict=True)):
        assert [name for name in plain if mine.get(name) != plain[name]] == [], f"step {step}"
