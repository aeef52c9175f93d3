"""Takeuchi's criterion, coordinate by coordinate, from the training loop to the log, against brute force."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from harness import by_layer, logged, reasons, record, record_steps
from hessians import blocks, full_gauss_newton, full_hessian
from reference import one_at_a_time
from torch import Tensor, nn

from cockpit import Cockpit
from cockpit.instruments import EarlyStopping, HessTrace, TICDiag
from cockpit.probes.takeuchi import ENOUGH, RunningMean, curvature_ratios

N, C = 8, 3
torch.manual_seed(0)
X, Y = torch.randn(N, 2, 6, 6).double(), torch.randint(C, (N,))
WEIGHT = torch.tensor([1.0, 2.0, 0.5]).double()


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    conv = nn.Conv2d(2, 3, 3, stride=2)
    return nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, C)).to(dtype)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    dtype = next(model.parameters()).dtype
    return F.cross_entropy(model(batch[0].to(dtype)), batch[1], weight=WEIGHT.to(dtype))


def truth(model: nn.Module, curvature: str) -> dict[str, float]:
    """``Σ_j (Σ_n w_n g_nj²) / H_jj`` by parameter."""
    if curvature == "hessian":
        matrix = full_hessian(model, lambda m: loss(m, (X, Y)))
    else:
        matrix = full_gauss_newton(model, lambda m: m(X), lambda f: F.cross_entropy(f, Y, weight=WEIGHT))
    samples = one_at_a_time(model, lambda m: F.cross_entropy(m(X), Y, reduction="none"), WEIGHT[Y] / WEIGHT[Y].sum())
    found = {}
    for name, block in blocks(model, matrix).items():
        moments = samples.weights @ samples.gradients[name].flatten(1).square()
        found[name] = sum(float(m / h) for m, h in zip(moments, block.diagonal(), strict=True) if h != 0)
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("curvature", ["ggn", "hessian"])
def test_exact_criterion_is_that_of_brute_force(curvature: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = network(dtype)
    expected = truth(model, curvature)
    run = record(tmp_path, model, [(X, Y)], loss, instruments=[TICDiag(curvature)])
    rel = 1e-7 if dtype == torch.float64 else 1e-3
    size = max(abs(value) for value in expected.values())
    assert logged(run, "tic_diag", 0) == pytest.approx(sum(expected.values()), rel=rel, abs=rel * size)
    for name, value in by_layer(run, "tic_diag", 0).items():
        assert value == pytest.approx(expected[name], rel=rel, abs=rel * size)
    assert logged(run, "tic_diag.left_out", 0) == 0
    assert logged(run, "tic_diag.draws", 0) is None


def at_rest(path: Path, steps: int, *instruments: object, draws: int = 1):
    """A run in which nothing moves."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return record(path, model, [(X, Y)] * steps, loss, optimizer, instruments=[TICDiag(draws=draws), *instruments])


def test_an_estimate_waits_for_sixteen_draws(tmp_path: Path) -> None:
    run = at_rest(tmp_path, ENOUGH + 2)
    column = run["tic_diag"]
    assert list(column.missing) == [True] * (ENOUGH - 1) + [False] * 3
    assert list(run["tic_diag.draws"].values) == list(range(1, ENOUGH + 3))
    assert "16 draws" in reasons(run)["tic_diag"]


def test_sixteen_draws_are_little_biased_and_many_hardly(tmp_path: Path) -> None:
    expected = sum(truth(network(), "ggn").values())
    few, many = (at_rest(tmp_path / str(draws), 1, draws=draws) for draws in (ENOUGH, 2000))
    assert logged(few, "tic_diag", 0) == pytest.approx(expected, rel=0.5)
    assert logged(many, "tic_diag", 0) == pytest.approx(expected, rel=0.03)


def test_others_of_the_step_share_its_draws(tmp_path: Path) -> None:
    """The trace is the same number whether the diagonal is wanted beside it or not."""
    together, alone = at_rest(tmp_path / "together", 2, HessTrace(), EarlyStopping()), network()
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.0)
    apart = record(tmp_path / "apart", alone, [(X, Y)] * 2, loss, optimizer, instruments=[HessTrace(), EarlyStopping()])
    for key in ("hess_trace", "early_stopping"):
        for t in range(2):
            assert logged(together, key, t) == pytest.approx(logged(apart, key, t), rel=1e-12)


def test_a_batch_in_parts_is_missing_with_its_reason(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def step(_: int) -> None:
        optimizer.zero_grad()
        for part in (slice(0, 4), slice(4, None)):
            (loss(model, (X[part], Y[part])) / 2).backward()
        optimizer.step()

    run = record_steps(tmp_path, model, optimizer, range(1), step, instruments=[TICDiag("ggn"), HessTrace("ggn")])
    assert logged(run, "tic_diag", 0) is None
    assert "several backward passes" in reasons(run)["tic_diag"]
    assert logged(run, "hess_trace", 0) > 0


def test_a_loss_without_curvature_says_why(tmp_path: Path) -> None:
    def absolute(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.l1_loss(model(batch[0]), torch.zeros(N, C).double())

    run = record(tmp_path, network(), [(X, Y)], absolute, instruments=[TICDiag(), EarlyStopping()])
    assert "l1_loss" in reasons(run)["tic_diag"]
    assert logged(run, "early_stopping", 0) is not None


def test_a_diverging_step_does_not_spoil_the_mean(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = [(X, Y)] * ENOUGH + [(X * float("nan"), Y)] + [(X, Y)]

    def step(batch: tuple[Tensor, Tensor]) -> None:
        optimizer.zero_grad()
        loss(model, batch).backward()

    run = record_steps(tmp_path, model, optimizer, batches, step, instruments=[TICDiag(draws=2)])
    assert logged(run, "tic_diag", ENOUGH) is None
    assert "not finite" in next(event.text for event in run._reader.events() if event.step == ENOUGH)
    assert logged(run, "tic_diag", ENOUGH + 1) > 0


def test_what_is_not_curved_is_left_out(tmp_path: Path) -> None:
    class Dead(nn.Module):
        """Half of the inputs are zero."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, C, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x * torch.tensor([1.0, 1.0, 0.0, 0.0]).double())

    def squares(model: nn.Module, x: Tensor) -> Tensor:
        return F.mse_loss(model(x), torch.ones(N, C).double())

    run = record(tmp_path, Dead().double(), [torch.randn(N, 4).double()], squares, instruments=[TICDiag("ggn")])
    assert logged(run, "tic_diag.left_out", 0) == pytest.approx(0.5)
    assert logged(run, "tic_diag", 0) > 0


def test_ratios_by_hand_and_across_pieces() -> None:
    curvature = torch.tensor([2.0, -4.0, 0.0, 1e-9])
    found = curvature_ratios(torch.tensor([1.0, 1.0, 3.0, 5.0]), curvature)
    assert found.tolist() == [2.0, 0.25]
    moments, curved = torch.rand(200_000), torch.rand(200_000) + 0.1
    count, total = curvature_ratios(moments, curved).tolist()
    assert count == 200_000
    assert total == pytest.approx(float((moments.double() / curved.double()).sum()), rel=1e-6)


def test_the_mean_is_plain_at_first_and_then_fades() -> None:
    mean = RunningMean()
    for i in range(ENOUGH):
        mean.add([torch.tensor([float(i)])], 1)
    assert mean.values[0].item() == pytest.approx((ENOUGH - 1) / 2)
    mean.add([torch.tensor([100.0])], 1)
    assert mean.values[0].item() == pytest.approx((ENOUGH - 1) / 2 * 15 / 16 + 100 / 16)
    mean.add([torch.tensor([3.0])], ENOUGH)
    assert mean.values[0].item() == pytest.approx(3.0)
    assert mean.draws == 2 * ENOUGH + 1


def test_nothing_is_held_but_one_number_for_each_coordinate(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Cockpit(model, optimizer, instruments=[TICDiag()], track=1, run=tmp_path / "run") as cockpit:
        for _ in range(2):
            with cockpit.step():
                optimizer.zero_grad()
                loss(model, (X, Y)).backward()
                optimizer.step()
        (held,) = [memory for memory in cockpit._tracker.memory.values() if isinstance(memory, RunningMean)]
        assert sum(values.numel() for values in held.values) == sum(p.numel() for p in model.parameters())
