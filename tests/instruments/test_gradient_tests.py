"""The three gradient tests as functions of sums, and at the edges: from a network down to the log."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import by_layer, holds, logged, reasons, record
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import Truth, one_at_a_time, token_losses
from torch import Tensor, nn

from cockpit.instruments._inner_test import inner_test_theta
from cockpit.instruments._norm_test import norm_test_theta
from cockpit.instruments._ortho_test import ortho_test_nu
from cockpit.statistics import mean, sum_of_squares, variance_of_mean

N, C = 6, 4


def truth_from(rows: Tensor, weights: Tensor | None = None) -> Truth:
    weights = torch.full((len(rows),), 1 / len(rows), dtype=torch.float64) if weights is None else weights
    return Truth(torch.zeros(len(rows)), weights, {"p": rows})


def sums(truth: Truth) -> tuple[Tensor, Tensor, Tensor]:
    rows, g = truth.flat(), truth.mean_gradient()
    return rows.square().sum(1), rows @ g, g @ g


@settings(max_examples=100, deadline=None)
@given(N=st.integers(2, 9), D=st.integers(1, 6), seed=st.integers(0, 10**6), weighted=st.booleans())
def test_functions_of_sums_are_the_definitions(N: int, D: int, seed: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(N, D, generator=generator, dtype=torch.float64) + 1
    weights = torch.rand(N, generator=generator, dtype=torch.float64) + 0.05 if weighted else torch.ones(N).double()
    truth = truth_from(rows, weights / weights.sum())
    sq_norms, dots, sq = sums(truth)
    w = truth.weights if weighted else None
    assert float(norm_test_theta(sq_norms, sq, w, dots)) == pytest.approx(truth.norm_test(), rel=1e-8, abs=1e-9)
    assert float(inner_test_theta(dots, sq, w)) == pytest.approx(truth.inner_test(), rel=1e-8, abs=1e-9)
    slack = 1e-7 * max(1.0, float((sq_norms.max() / sq).sqrt()))  # where nothing is orthogonal: the root of rounding
    assert float(ortho_test_nu(sq_norms, dots, sq, w)) == pytest.approx(truth.ortho_test(), rel=1e-8, abs=slack)


def test_equal_weights_by_name_change_nothing() -> None:
    truth = truth_from(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double())
    sq_norms, dots, sq = sums(truth)
    for plain, weighted in (
        (norm_test_theta(sq_norms, sq), norm_test_theta(sq_norms, sq, truth.weights)),
        (inner_test_theta(dots, sq), inner_test_theta(dots, sq, truth.weights)),
        (ortho_test_nu(sq_norms, dots, sq), ortho_test_nu(sq_norms, dots, sq, truth.weights)),
    ):
        torch.testing.assert_close(plain, weighted)


def test_squares_of_inner_and_orthogonal_parts_add_up_to_the_whole() -> None:
    truth = truth_from(torch.randn(7, 4, generator=torch.Generator().manual_seed(1)).double())
    sq_norms, dots, sq = sums(truth)
    whole, along, across = norm_test_theta(sq_norms, sq), inner_test_theta(dots, sq), ortho_test_nu(sq_norms, dots, sq)
    torch.testing.assert_close(whole.square(), along.square() + across.square())


def test_pure_noise_gives_about_one() -> None:
    rows = torch.randn(200, 5000, generator=torch.Generator().manual_seed(2)).double()
    sq_norms, _, sq = sums(truth_from(rows))
    assert float(norm_test_theta(sq_norms, sq)) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("function", [
    lambda: norm_test_theta(torch.ones(1), torch.tensor(1.0)),
    lambda: inner_test_theta(torch.ones(1), torch.tensor(1.0)),
    lambda: ortho_test_nu(torch.ones(1), torch.ones(1), torch.tensor(1.0)),
    lambda: variance_of_mean(torch.ones(1), torch.ones(1)),
    lambda: sum_of_squares(torch.ones(3), torch.tensor([1.0, 0.0, 0.0])),
])  # fmt: skip
def test_one_sample_is_refused(function: Callable[[], Tensor]) -> None:
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        function()


def test_unequal_weights_need_the_inner_products() -> None:
    with pytest.raises(ValueError, match="inner products"):
        norm_test_theta(torch.ones(2), torch.tensor(1.0), torch.tensor([0.2, 0.8]))


def test_identical_samples_have_no_noise_and_never_nan() -> None:
    for seed in range(50):
        g = torch.randn(40, generator=torch.Generator().manual_seed(seed))
        sq_norms, dots, sq = (g @ g).expand(8) * (1 - 1e-7), (g @ g).expand(8), (g @ g) * (1 + 1e-7)
        assert float(norm_test_theta(sq_norms, sq)) == 0
        assert not math.isnan(float(ortho_test_nu(sq_norms, dots, sq)))


def test_nothing_but_zeros_is_undefined_and_opposites_are_infinite() -> None:
    zeros = torch.zeros(4)
    assert math.isnan(float(norm_test_theta(zeros, torch.tensor(0.0))))
    assert float(norm_test_theta(torch.ones(4), torch.tensor(0.0))) == math.inf
    assert math.isnan(float(inner_test_theta(zeros, torch.tensor(0.0))))
    assert math.isnan(float(ortho_test_nu(zeros, zeros, torch.tensor(0.0))))


def test_what_stands_in_place_of_a_sample_without_a_loss_is_not_looked_at() -> None:
    values, weights = torch.tensor([1.0, math.nan, 3.0]), torch.tensor([0.5, 0.0, 0.5])
    assert float(mean(values, weights)) == 2
    assert float(variance_of_mean(values, weights)) == pytest.approx(2 * (0.25 + 0.25))


# From a network down to the log


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, C))


def labels(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_identical_samples(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = network().to(dtype)
    x, y = torch.randn(1, 5, dtype=dtype).expand(N, 5), torch.full((N,), 2)
    run = record(tmp_path, model, [(x, y)] * 3, labels)
    for key in ("norm_test", "inner_test", "ortho_test"):
        # The root of what float32 leaves of a difference of equal numbers.
        np.testing.assert_allclose(run[key].values, 0, atol=1e-3 if dtype == torch.float32 else 1e-7)
        assert not run[key].missing.any()
    assert not np.isnan(run["alpha"].values).any()


def test_dead_network_has_gradients_only_where_it_lives(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = network().double()
    with torch.no_grad():
        model[0].bias.fill_(-1e3)
    batch = (torch.randn(N, 5).double(), torch.arange(N) % C)
    truth = one_at_a_time(model, lambda m: token_losses(m(batch[0]).unsqueeze(1), batch[1].unsqueeze(1))[0])
    run = record(tmp_path, model, [batch], labels)
    holds(run, 0, truth)
    assert by_layer(run, "grad_norm", 0)["0.weight"] == 0
    assert by_layer(run, "grad_hist_1d", 0)["0.weight"][50] == N * 40


def test_network_without_any_gradient_has_no_tests(tmp_path: Path) -> None:
    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(5, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) * 0.0

    batch = (torch.randn(N, 5), torch.arange(N) % C)
    run = record(tmp_path, Nothing(), [batch] * 2, labels)
    for key in ("norm_test", "inner_test", "ortho_test"):
        assert logged(run, key, 0) is None
        assert "zero" in reasons(run)[key]
    assert logged(run, "grad_norm", 0) == 0
    assert logged(run, "grad_hist_1d", 0)[50] == N * 24
    assert logged(run, "alpha", 0) is None


def test_opposite_samples_are_infinitely_noisy(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.zero_()
    x = torch.tensor([[1.0, 1.0], [1.0, 1.0]]).double()
    y = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()
    run = record(tmp_path, model, [(x, y)], lambda m, b: F.mse_loss(m(b[0]), b[1]))
    assert logged(run, "norm_test", 0) == math.inf
    assert logged(run, "inner_test", 0) is None
    assert "mean gradient is zero" in reasons(run)["ortho_test"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_loss_that_is_no_number_is_logged_as_it_is_and_not_missing(bad: float, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = network()
    good = (torch.randn(N, 5), torch.arange(N) % C)
    x = good[0].clone()
    x[2, 3] = bad
    run = record(tmp_path, model, [good, (x, good[1])], labels)
    assert math.isnan(logged(run, "loss", 1))
    for key in ("grad_norm", "norm_test", "inner_test", "ortho_test"):
        assert math.isnan(logged(run, key, 1)), key
        assert math.isfinite(logged(run, key, 0)), key
    counted = logged(run, "grad_hist_1d", 1).sum()
    assert 0 < counted < logged(run, "grad_hist_1d", 0).sum(), "a NaN is in no bin"
    assert logged(run, "alpha", 0) is None


def test_batch_of_one_is_a_gap(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = network().double()
    batches = [(torch.randn(n, 5).double(), torch.arange(n) % C) for n in (N, 1, N)]
    truths: list[Truth] = []

    def loss(m: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        truths.append(one_at_a_time(m, lambda c: token_losses(c(x).unsqueeze(1), y.unsqueeze(1))[0]))
        return labels(m, batch)

    run = record(tmp_path, model, batches, loss)
    for key in ("norm_test", "inner_test", "ortho_test"):
        assert list(run[key].missing) == [False, True, False]
        assert "single sample" in reasons(run)[key]
    assert run["alpha"].missing.all()
    for t in (0, 2):
        holds(run, t, truths[t])
    assert logged(run, "grad_norm", 1) == pytest.approx(truths[1].grad_norm(), rel=1e-9)
    assert (logged(run, "grad_hist_1d", 1) == truths[1].histogram()).all()


def test_one_sample_with_a_loss_among_many_without_is_a_single_sample(tmp_path: Path) -> None:
    torch.manual_seed(4)
    y = torch.full((N,), -100)
    y[3] = 1
    run = record(tmp_path, network(), [(torch.randn(N, 5), y)] * 2, labels)
    for key in ("norm_test", "inner_test", "ortho_test", "alpha"):
        assert logged(run, key, 0) is None
        assert "single sample" in reasons(run)[key]


def test_histogram_of_another_range(tmp_path: Path) -> None:
    from cockpit.instruments import GradHist1d

    torch.manual_seed(5)
    model = network().double()
    batch = (torch.randn(N, 5).double(), torch.arange(N) % C)
    truth = one_at_a_time(model, lambda m: token_losses(m(batch[0]).unsqueeze(1), batch[1].unsqueeze(1))[0])
    run = record(tmp_path, model, [batch], labels, instruments=[GradHist1d(low=-0.1, high=0.3, bins=17)])
    assert (logged(run, "grad_hist_1d", 0) == truth.histogram(-0.1, 0.3, 17)).all()
    np.testing.assert_allclose(run["grad_hist_1d"].edges, np.linspace(-0.1, 0.3, 18))
    assert logged(run, "grad_hist_1d", 0).sum() == N * truth.flat().shape[1]


@pytest.mark.parametrize("options", [{"low": 1, "high": 1}, {"low": 1, "high": 0}, {"bins": 1}])
def test_histogram_without_bins_is_refused(options: dict) -> None:
    from cockpit.instruments import GradHist1d

    with pytest.raises(ValueError, match="low < high and at least 2 bins"):
        GradHist1d(**options)
