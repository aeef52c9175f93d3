"""The parameters' values, against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import by_layer, logged, record
from torch import Tensor, nn

from cockpit.instrument import configured
from cockpit.instruments import Parameters


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_value_before_the_step_is_counted(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 40), nn.Linear(40, 3)).to(dtype)
    with torch.no_grad():
        model[1].bias[0], model[1].bias[1] = 7.0, -7.0
    before: list[dict[str, np.ndarray]] = []

    def loss(m: nn.Module, x: Tensor) -> Tensor:
        before.append({name: p.detach().double().numpy().copy() for name, p in m.named_parameters()})
        return F.cross_entropy(m(x), torch.arange(len(x)) % 3)

    batches = [torch.randn(6, 5).to(dtype) for _ in range(2)]
    run = record(tmp_path, model, batches, loss, instruments=[Parameters(-0.5, 0.5, 64)])
    inner = run["parameters"].edges[1:-1]
    for t in range(2):
        whole = np.zeros(64, np.int64)
        for name, values in before[t].items():
            expected = np.bincount(np.searchsorted(inner, values.ravel(), side="right"), minlength=64)
            whole += expected
            np.testing.assert_array_equal(by_layer(run, "parameters", t)[name], expected)
            assert by_layer(run, "parameters.mean", t)[name] == pytest.approx(values.mean(), rel=1e-5, abs=1e-7)
            assert by_layer(run, "parameters.std", t)[name] == pytest.approx(values.std(), rel=1e-5)
        np.testing.assert_array_equal(logged(run, "parameters", t), whole)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_values_before_the_step_are_logged_to_the_last_bit_where_asked_for(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 3)).to(dtype)
    before: list[dict[str, Tensor]] = []

    def loss(m: nn.Module, x: Tensor) -> Tensor:
        before.append({name: p.detach().clone() for name, p in m.named_parameters()})
        return F.cross_entropy(m(x), torch.arange(len(x)) % 3)

    batches = [torch.randn(6, 2, 3, 3).to(dtype) for _ in range(3)]
    run = record(tmp_path, model, batches, loss, instruments=[Parameters(values=True)])
    held = torch.float64 if dtype == torch.float64 else torch.float32  # which has every number in half precision
    assert run["parameters"].arrays.steps.tolist() == [0, 1, 2]
    for t in range(3):
        found = run["parameters"].at(t)
        assert list(found) == list(before[t])
        for name, parameter in before[t].items():
            assert found[name].shape == tuple(parameter.shape)
            assert found[name].tobytes() == parameter.to(held).numpy().tobytes()
    assert run["parameters"].values.sum(1).tolist() == [sum(p.numel() for p in model.parameters())] * 3


def test_values_are_not_logged_unless_asked_for(tmp_path: Path) -> None:
    run = record(tmp_path, nn.Linear(2, 2), [torch.randn(4, 2)], lambda m, x: m(x).square().mean())
    assert all(run[key].arrays is None for key in run.keys())  # noqa: SIM118, not a dict


def test_it_is_opted_for_by_name() -> None:
    assert Parameters not in configured("full")


@pytest.mark.parametrize(("low", "high", "bins"), [(1, 1, 5), (1, 0, 5), (0, 1, 1)])
def test_a_range_without_bins_is_refused(low: float, high: float, bins: int) -> None:
    with pytest.raises(ValueError, match="low < high and at least 2 bins"):
        Parameters(low, high, bins)
