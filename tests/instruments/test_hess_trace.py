"""Readings of curvature, from the training loop to the log, against brute force."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from harness import by_layer, logged, reasons, record, record_steps
from hessians import blocks, full_gauss_newton, full_hessian
from reference import one_at_a_time
from torch import Tensor, nn

from cockpit.instruments import HessTrace, TICTrace
from cockpit.run import Run

N, C = 6, 4
EXACT = {"hessian", "ggn"}


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 4, 3, stride=2)
    return nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, C)).to(dtype)


torch.manual_seed(1)
X, Y = torch.randn(N, 2, 6, 6).double(), torch.randint(C, (N,))
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 3.0]).double()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    dtype = next(model.parameters()).dtype
    return F.cross_entropy(model(batch[0].to(dtype)), batch[1], weight=WEIGHT.to(dtype))


def matrix(model: nn.Module, curvature: str) -> Tensor:
    if curvature in ("hessian", "hutchinson"):
        return full_hessian(model, lambda m: loss(m, (X, Y)))
    return full_gauss_newton(model, lambda m: m(X), lambda f: F.cross_entropy(f, Y, weight=WEIGHT))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("curvature", sorted(EXACT))
def test_exact_trace_and_criterion_are_those_of_brute_force(curvature: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = network(dtype)
    truth, expected = matrix(model, curvature), blocks(model, matrix(model, curvature))
    moments = one_at_a_time(model, lambda m: F.cross_entropy(m(X), Y, reduction="none"), WEIGHT[Y] / WEIGHT[Y].sum())
    run = record(tmp_path, model, [(X, Y)], loss, instruments=[HessTrace(curvature), TICTrace(curvature)])
    rel = 1e-7 if dtype == torch.float64 else 1e-3
    assert logged(run, "hess_trace", 0) == pytest.approx(float(truth.trace()), rel=rel)
    assert logged(run, "hess_trace.error", 0) == 0
    assert logged(run, "tic_trace", 0) == pytest.approx(moments.mean_sq_norm() / float(truth.trace()), rel=rel)
    for name, block in expected.items():
        assert by_layer(run, "hess_trace", 0)[name] == pytest.approx(float(block.trace()), rel=rel)
        assert by_layer(run, "hess_trace.layer_error", 0)[name] == 0
        assert by_layer(run, "tic_trace.hess_trace", 0)[name] == pytest.approx(float(block.trace()), rel=rel)
        assert by_layer(run, "tic_trace.mean_sq_norm", 0)[name] == pytest.approx(moments.mean_sq_norm([name]), rel=rel)


@pytest.mark.parametrize("curvature", ["ggn_mc", "hutchinson"])
def test_estimates_lie_within_their_standard_error(curvature: str, tmp_path: Path) -> None:
    model = network()
    truth = matrix(model, curvature)
    run = record(tmp_path, model, [(X, Y)], loss, instruments=[HessTrace(curvature, draws=200)])
    gap, error = logged(run, "hess_trace", 0) - float(truth.trace()), logged(run, "hess_trace.error", 0)
    assert abs(gap) < 3 * error
    assert error < 0.2 * float(truth.norm())
    assert logged(run, "hess_trace.draws", 0) == 200


def test_a_single_draw_of_products_has_no_standard_error(tmp_path: Path) -> None:
    run = record(tmp_path, network(), [(X, Y)], loss, instruments=[HessTrace("hutchinson")])
    assert logged(run, "hess_trace.error", 0) is None
    assert by_layer(run, "hess_trace.layer_error", 0) == {}


def test_a_single_draw_does_not_know_its_error_below_batch_normalisation(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.BatchNorm1d(5), nn.Linear(5, C)).double()
    run = record(tmp_path, model, [(X, Y)], loss, instruments=[HessTrace()])
    assert logged(run, "hess_trace.error", 0) is None
    known = by_layer(run, "hess_trace.layer_error", 0)
    assert set(known) == {"2.weight", "2.bias", "3.weight", "3.bias"}


def test_the_error_of_a_single_draw_is_its_standard_deviation_at_most(tmp_path: Path) -> None:
    model = network()
    standing = torch.optim.SGD(model.parameters(), lr=0.0)  # every step draws anew for the same network
    run = record(tmp_path, model, [(X, Y)] * 60, loss, standing, instruments=[HessTrace()])
    traces, errors = run["hess_trace"].values, run["hess_trace.error"].values
    assert traces.std(ddof=1) < 1.2 * (errors**2).mean() ** 0.5  # a chance of one in a thousand
    assert (errors > 0).all()
    layers, layer_errors = run["hess_trace"].layers, run["hess_trace.layer_error"].layers
    spread = layers.values.std(axis=0, ddof=1)
    assert (spread < 1.2 * (layer_errors.values**2).mean(axis=0) ** 0.5).all()


def test_steps_draw_anew_and_the_same_step_draws_the_same(tmp_path: Path) -> None:
    def still(path: Path) -> Run:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        return record(path, model, [(X, Y)] * 3, loss, optimizer, instruments=[HessTrace()])

    first, second = still(tmp_path / "first"), still(tmp_path / "second")
    values = first["hess_trace"].values
    assert len(set(values)) == 3
    assert list(values) == list(second["hess_trace"].values)


@pytest.mark.parametrize("curvature", sorted(EXACT))
def test_micro_batches_and_loss_scales_read_as_one_batch(curvature: str, tmp_path: Path) -> None:
    model = network()
    truth = matrix(model, curvature)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    shares = [float(WEIGHT[Y[part]].sum() / WEIGHT[Y].sum()) for part in (slice(0, 2), slice(2, None))]

    def step(_: int) -> None:
        optimizer.zero_grad()
        for share, part in zip(shares, (slice(0, 2), slice(2, None)), strict=True):
            (1024 * share * loss(model, (X[part], Y[part]))).backward()
        optimizer.step()

    run = record_steps(
        tmp_path, model, optimizer, range(2), step, instruments=[HessTrace(curvature), TICTrace(curvature)]
    )
    for t in range(2):
        assert logged(run, "hess_trace", t) == pytest.approx(float(truth.trace()), rel=1e-6)
        assert logged(run, "tic_trace", t) is not None


@pytest.mark.parametrize("scale", [1.0, 65536.0])
def test_half_precision_reads_as_full(scale: float, tmp_path: Path) -> None:
    model = network(torch.float32)
    truth = float(matrix(model, "ggn").trace())
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.0), torch.amp.GradScaler("cpu", init_scale=scale)

    def step(_: int) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            found = loss(model, (X, Y))
        scaler.scale(found).backward()
        scaler.step(optimizer)
        scaler.update()

    run = record_steps(tmp_path, model, optimizer, range(1), step, instruments=[HessTrace("ggn"), TICTrace("ggn")])
    assert logged(run, "hess_trace", 0) == pytest.approx(truth, rel=1e-2)
    assert logged(run, "tic_trace", 0) is not None


def test_a_penalty_beside_the_loss_is_not_passed_over(tmp_path: Path) -> None:
    def penalised(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss(model, batch) + 0.1 * sum(p.square().sum() for p in model.parameters())

    run = record(tmp_path, network(), [(X, Y)], penalised, instruments=[HessTrace(), TICTrace()])
    assert logged(run, "hess_trace", 0) is None
    assert "not 'cross_entropy' alone" in reasons(run)["hess_trace"]
    run = record(tmp_path / "h", network(), [(X, Y)], penalised, instruments=[HessTrace("hessian")])
    D = sum(p.numel() for p in network().parameters())
    truth = float(matrix(network(), "hessian").trace()) + 0.2 * D
    assert logged(run, "hess_trace", 0) == pytest.approx(truth, rel=1e-7)


def test_a_curvature_without_size_has_no_criterion(tmp_path: Path) -> None:
    """The exact Hessian of a network that is very wrong may have a negative trace."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh()).double()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    x, target = torch.ones(2, 1).double(), torch.full((2, 1), -5.0).double()
    run = record(
        tmp_path, model, [(x, target)], lambda m, b: F.mse_loss(m(b[0]), b[1]), instruments=[TICTrace("hessian")]
    )
    assert logged(run, "tic_trace", 0) is None
    assert "not positive" in reasons(run)["tic_trace"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"curvature": "fisher"}, "curvature is one of hessian, ggn, ggn_mc, hutchinson, got 'fisher'"),
        ({"draws": 0}, "at least 1, got 0"),
        ({"curvature": "ggn", "draws": 3}, "is exact and draws nothing"),
    ],
)
@pytest.mark.parametrize("instrument", [HessTrace, TICTrace])
def test_impossible_settings_are_refused(instrument: type, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        instrument(**options)
