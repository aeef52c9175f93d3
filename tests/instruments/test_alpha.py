"""Alpha: the parabola, its special cases, and the measured step of any optimizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from classifier import C, N, cross_entropies, mlp, truth_of
from harness import Opaque, logged, reasons, record, record_steps
from reference import Truth, alpha, alpha_without_start, one_at_a_time
from torch import Tensor, nn

from cockpit import Cockpit, load_run
from cockpit.capture.individual.convolution import ConvolutionGradients
from cockpit.instruments import Alpha, Loss

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "ascent": lambda p: torch.optim.SGD(p, lr=0.1, maximize=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "adamw-one-by-one": lambda p: torch.optim.AdamW(p, lr=0.05, foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.02),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.1),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=3),
    "two-groups": lambda p: torch.optim.SGD([{"params": p[:1], "lr": 0.5}, {"params": p[1:], "lr": 0.01}]),
}


def walk(model: nn.Module, optimizer, batches, path: Path, outside: bool = False, **options):
    """Trains under a cockpit; truths, steps and the log."""
    truths, steps = [], []
    options.setdefault("instruments", "alpha")
    options.setdefault("track", 1)
    cockpit = Cockpit(model, optimizer, run=path / "run", **options)
    with cockpit:
        for batch in batches:
            truths.append(truth_of(model, *batch))
            before = {name: p.detach().clone() for name, p in model.named_parameters()}

            def closure(batch=batch) -> Tensor:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(batch[0]), batch[1])
                loss.backward()
                return loss

            with cockpit.step():
                if isinstance(optimizer, torch.optim.LBFGS):
                    optimizer.step(closure)
                else:
                    closure()
                    if not outside:
                        optimizer.step()
            if outside:
                optimizer.step()
            steps.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
    return truths, steps, load_run(path / "run")


def check(truths: list[Truth], steps: list[dict[str, Tensor]], run, rel: float, expected=alpha, every: int = 1) -> None:
    for t in range(0, len(steps) - 1, every):
        value, concave, uphill = expected(truths[t], truths[t + 1], steps[t])
        assert logged(run, "alpha", t) == pytest.approx(value, rel=rel)
        assert (logged(run, "alpha.concave", t), logged(run, "alpha.uphill", t)) == (concave, uphill)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_alpha_of_the_step_that_the_optimizer_made(make, dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mlp().to(dtype)
    batches = [(torch.randn(N, 5, dtype=dtype), torch.randint(C, (N,))) for _ in range(4)]
    truths, steps, run = walk(model, make(list(model.parameters())), batches, tmp_path)
    check(truths, steps, run, rel=1e-6 if dtype == torch.float64 else 1e-3)


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_without_the_slope_at_the_start_the_parabola_goes_through_the_other_three(
    name: str, outside: bool, tmp_path: Path
) -> None:
    torch.manual_seed(7)
    model = mlp().double()
    batches = [(torch.randn(n, 5).double(), torch.randint(C, (n,))) for n in (6, 4, 9, 5, 6)]
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    truths, steps, run = walk(model, optimizer, batches, tmp_path, outside, instruments=[Alpha(start=False)])
    check(truths, steps, run, rel=1e-6, expected=alpha_without_start)
    assert len(set(run["alpha"].values)) > 1
    assert "without the slope at the step's start" in run.header.panels["alpha"].how_to_read


def test_the_slope_at_the_start_is_observed_unless_told_otherwise(tmp_path: Path) -> None:
    found = []
    for instrument in (Alpha(), Alpha(start=False)):
        torch.manual_seed(8)
        model = mlp().double()
        batches = [(torch.randn(N, 5).double(), torch.randint(C, (N,))) for _ in range(3)]
        optimizer = OPTIMIZERS["momentum"](list(model.parameters()))
        found.append(walk(model, optimizer, batches, tmp_path / str(len(found)), instruments=[instrument])[2])
    assert found[0]["alpha"].values.tolist() != found[1]["alpha"].values.tolist()
    assert "without the slope" not in found[0].header.panels["alpha"].how_to_read


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_optimizer_may_step_after_the_block(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = mlp().double()
    batches = [(torch.randn(N, 5).double(), torch.randint(C, (N,))) for _ in range(4)]
    check(*walk(model, OPTIMIZERS[name](list(model.parameters())), batches, tmp_path, outside=True), rel=1e-6)


def test_alpha_of_convolutions_whose_rows_are_kept_or_not(tmp_path: Path) -> None:
    """Kept until the optimizer has stepped where they fit, and contracted by convolving again where they do not."""
    found = []
    for limit in (1, 1 << 28):
        torch.manual_seed(2)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 2, stride=2), nn.Flatten(), nn.Linear(12, C)
        )
        model = model.double()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        batches = [(torch.randn(N, 2, 6, 6).double(), torch.randint(C, (N,))) for _ in range(3)]
        cockpit = Cockpit(model, optimizer, run=tmp_path / str(limit), track=1)
        cockpit._tracker.workspace.limit = limit
        truths, steps = [], []
        with cockpit:
            for x, y in batches:
                truths.append(truth_of(model, x, y))
                before = {name: p.detach().clone() for name, p in model.named_parameters()}
                with cockpit.step():
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), y).backward()
                    optimizer.step()
                steps.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
        run = load_run(tmp_path / str(limit))
        check(truths, steps, run, rel=1e-6)
        found.append(run["alpha"].values)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


def small_convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 2, stride=2), nn.Flatten(), nn.Linear(12, C)
    ).double()


def test_a_step_that_only_ends_a_window_forms_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the slope is all that anybody asks for: convolving once more is cheaper than individual gradients."""
    torch.manual_seed(2)
    model, formed = small_convolutions(), []
    form = ConvolutionGradients._form_rows
    monkeypatch.setattr(
        ConvolutionGradients, "_form_rows", lambda self, workspace: formed.append(len(truths)) or form(self, workspace)
    )
    batches = [(torch.randn(N, 2, 6, 6).double(), torch.randint(C, (N,))) for _ in range(7)]
    truths, steps = [], []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    with Cockpit(model, optimizer, run=tmp_path / "run", instruments="economy", track=3) as cockpit:
        for x, y in batches:
            truths.append(truth_of(model, x, y))
            before = {name: p.detach().clone() for name, p in model.named_parameters()}
            with cockpit.step():
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
            steps.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
    check(truths, steps, load_run(tmp_path / "run"), rel=1e-6, every=3)
    assert set(formed) == {1, 4, 7}


@pytest.mark.parametrize("at", [0, 1])
def test_a_penalty_is_noticed_in_either_step_of_a_window(at: int, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = mlp().double()
    batches = [(t, torch.randn(N, 5).double(), torch.randint(C, (N,))) for t in range(2)]

    def loss(m: nn.Module, batch) -> Tensor:
        t, x, y = batch
        penalty = sum(p.square().sum() for p in m.parameters()) if t == at else 0.0
        return F.cross_entropy(m(x), y) + 0.05 * penalty

    run = record(tmp_path, model, batches, loss, track=2, instruments="economy")
    missing(run, "do not add up to its gradient")


def test_a_parameter_that_was_left_out_where_the_window_began_is_so_where_it_ends(tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, C)).double()
    batches = [(t, torch.randn(N, 5).double(), torch.randint(C, (N,))) for t in range(2)]

    def loss(m: nn.Module, batch) -> Tensor:
        t, x, y = batch
        hidden = Opaque.apply(x, m[0].weight) if t == 0 else m[0](x)
        return F.cross_entropy(m[2](torch.tanh(hidden)), y)

    run = record(tmp_path, model, batches, loss, track=2, instruments="economy")
    assert logged(run, "alpha", 0) is None


def test_batches_of_different_size(tmp_path: Path) -> None:
    """Each mean is as sure as its own batch makes it."""
    torch.manual_seed(3)
    model = mlp().double()
    batches = [(torch.randn(n, 5).double(), torch.randint(C, (n,))) for n in (4, 16, 3)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    check(*walk(model, optimizer, batches, tmp_path), rel=1e-6)


@pytest.mark.parametrize("track", [2, 3])
def test_alpha_is_logged_under_the_step_it_measures(track: int, tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = mlp()
    batches = [(torch.randn(N, 5), torch.randint(C, (N,)))] * 7
    run = record(
        tmp_path, model, batches, lambda m, b: F.cross_entropy(m(b[0]), b[1]), track=track, instruments="alpha+loss"
    )
    assert list(run["alpha"].steps) == [t for t in range(0, 7, track) if t + 1 < 7]
    assert list(run["loss"].steps) == list(range(0, 7, track))


def test_full_batch_descent_with_a_tiny_step_has_hardly_moved(tmp_path: Path) -> None:
    torch.manual_seed(5)
    model, batch = mlp().double(), (torch.randn(32, 5).double(), torch.randint(C, (32,)))
    run = record(
        tmp_path, model, [batch] * 3, lambda m, b: F.cross_entropy(m(b[0]), b[1]),
        torch.optim.SGD(model.parameters(), lr=1e-4), instruments="alpha",
    )  # fmt: skip
    assert logged(run, "alpha", 0) == pytest.approx(-1, abs=1e-2)


# No reading


def missing(run, words: str, step: int = 0) -> None:
    assert logged(run, "alpha", step) is None
    assert words in reasons(run)["alpha"]


def test_parameters_that_did_not_move_have_no_alpha(tmp_path: Path) -> None:
    model, batch = mlp(), (torch.randn(N, 5), torch.randint(C, (N,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    missing(
        record(tmp_path, model, [batch] * 2, lambda m, b: F.cross_entropy(m(b[0]), b[1]), optimizer), "did not move"
    )


@pytest.mark.parametrize("sizes", [(1, 4), (4, 1)])
def test_single_sample_has_no_alpha(sizes: tuple[int, int], tmp_path: Path) -> None:
    model = mlp()
    batches = [(torch.randn(n, 5), torch.randint(C, (n,))) for n in sizes]
    missing(record(tmp_path, model, batches, lambda m, b: F.cross_entropy(m(b[0]), b[1])), "single sample")


def test_micro_batches_have_no_alpha(tmp_path: Path) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_: int) -> None:
        optimizer.zero_grad()
        for _ in range(2):
            (F.cross_entropy(model(torch.randn(N, 5)), torch.randint(C, (N,))) / 2).backward()
        optimizer.step()

    missing(record_steps(tmp_path, model, optimizer, range(2), step), "several backward passes")


def test_loss_that_is_not_the_whole_has_no_alpha(tmp_path: Path) -> None:
    model, batch = mlp(), (torch.randn(N, 5), torch.randint(C, (N,)))

    def loss(m: nn.Module, b: tuple[Tensor, Tensor]) -> Tensor:
        out = m(b[0])
        return F.cross_entropy(out, b[1]) + 0.1 * out.square().sum(1).mean()

    missing(record(tmp_path, model, [batch] * 2, loss), "is not 'cross_entropy' alone")


def test_step_that_lies_elsewhere_has_no_alpha(tmp_path: Path) -> None:
    """A slope along the readable part of a step would be a slope along another step."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.head = nn.Linear(5, 8), nn.Linear(8, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(Opaque.apply(x, self.hidden.weight).tanh())

    model = Functional()
    model.head = nn.Linear(8, C)
    batch = (torch.randn(N, 5), torch.randint(C, (N,)))
    run = record(tmp_path, model, [batch] * 2, lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    missing(run, "individual gradients")


def test_parameters_without_gradient_that_move_are_no_gap(tmp_path: Path) -> None:
    """A branch that sits out keeps moving by its momentum; along that way no loss of this batch has a slope."""

    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.branch, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, C)

        def forward(self, x: Tensor, branch: bool = False) -> Tensor:
            h = self.trunk(x).tanh()
            return self.head(h + self.branch(h) if branch else h)

    torch.manual_seed(6)
    model = Branched().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = [(torch.randn(N, 5).double(), torch.randint(C, (N,))) for _ in range(3)]
    truths, steps = [], []

    def step(t: int) -> None:
        x, y = batches[t]
        used = t == 0
        truths.append(one_at_a_time(model, lambda m: cross_entropies(m(x, used), y)))
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(model(x, used), y).backward()
        optimizer.step()
        steps.append({name: p.detach() - before[name] for name, p in model.named_parameters()})

    run = record_steps(tmp_path, model, optimizer, range(3), step)
    assert steps[1]["branch.weight"].norm() > 0
    check(truths, steps, run, rel=1e-6)


def test_instrument_and_function_share_their_names() -> None:
    assert Alpha.name == "alpha"
    assert Alpha.window == 2
    assert Loss.window == 1
