"""Backward passes that are not one plain ``loss.backward()``: right, or withheld with a reason, and never wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from harness import GRADIENT_KEYS, captured, holds, logged, reasons, record, record_steps
from reference import Truth, by_copies, one_at_a_time, token_losses
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

from cockpit.run import Run

N, C = 6, 4
INDIVIDUAL = ("norm_test", "inner_test", "ortho_test", "grad_hist_1d")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, C)).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N, 5).double()


Y = torch.arange(N) % C


def truth_of(model: nn.Module, x: Tensor) -> Truth:
    return one_at_a_time(model, lambda m: token_losses(m(x).unsqueeze(1), Y.unsqueeze(1))[0])


def one_step(path: Path, model: nn.Module, step: Callable[[], object]) -> Run:
    """A step that does not move, so that the truth can be asked for afterwards."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def whole(_: int) -> None:
        optimizer.zero_grad()
        step()
        optimizer.step()

    return record_steps(path, model, optimizer, range(1), whole)


def withheld(run: Run, words: str) -> None:
    """Everything from individual gradients is missing, and the reason has these words in it."""
    for key in INDIVIDUAL:
        assert logged(run, key, 0) is None, key
        assert words in reasons(run)[key]


# More than one walk through a graph


def test_gradients_taken_aside_are_no_backward_pass(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        loss = F.cross_entropy(model(x), Y)
        torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        (3 * loss).backward()

    holds(one_step(tmp_path, model, step), 0, truth_of(model, x))


def test_gradients_taken_aside_for_the_input_are_no_backward_pass(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        inputs = x.clone().requires_grad_()
        (direction,) = torch.autograd.grad(F.cross_entropy(model(inputs), Y), inputs)
        F.cross_entropy(model(x + 0.0 * direction), Y).backward()

    holds(one_step(tmp_path, model, step), 0, truth_of(model, x))


def test_only_gradients_taken_aside_give_no_reading(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        found = torch.autograd.grad(F.cross_entropy(model(x), Y), list(model.parameters()))
        for p, g in zip(model.parameters(), found, strict=True):
            p.grad = g

    run = one_step(tmp_path, model, step)
    withheld(run, "no backward pass was seen")
    assert logged(run, "grad_norm", 0) is None
    assert logged(run, "loss", 0) is None


def test_function_transforms_are_no_backward_pass(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        parameters = {name: p.detach() for name, p in model.named_parameters()}

        def loss(p: dict[str, Tensor], inputs: Tensor, label: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(model, p, (inputs,)), label)

        vmap(grad(loss), (None, 0, 0))(parameters, x, Y)
        F.cross_entropy(model(x), Y).backward()

    holds(one_step(tmp_path, model, step), 0, truth_of(model, x))


def test_graph_of_the_gradients_may_be_asked_for(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        F.cross_entropy(model(x), Y).backward(create_graph=True)
        for p in model.parameters():
            p.grad = p.grad.detach()  # or the graph would outlive the step

    with pytest.warns(UserWarning, match="create_graph=True"):
        run = one_step(tmp_path, model, step)
    holds(run, 0, truth_of(model, x))


def test_second_walk_through_one_graph_is_withheld(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        loss = F.cross_entropy(model(x), Y)
        (8 * loss).backward(retain_graph=True)
        (8 * loss).backward()

    run, truth = one_step(tmp_path, model, step), truth_of(model, x)
    withheld(run, "walked backwards twice")
    holds_norm = logged(run, "grad_norm", 0)
    assert holds_norm == pytest.approx(truth.grad_norm(), rel=1e-9)
    assert logged(run, "loss", 0) == pytest.approx(truth.loss(), rel=1e-9)


def test_two_losses_sent_backwards_one_after_the_other(tmp_path: Path) -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.one, self.two = nn.Linear(5, 6), nn.Linear(6, C), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.trunk(x).tanh()
            return self.one(h), self.two(h)

    model, x = Heads().double(), torch.randn(N, 5).double()

    def step() -> None:
        one, two = model(x)
        first, second = F.cross_entropy(one, Y), F.mse_loss(two, torch.ones_like(two))
        first.backward(retain_graph=True)
        second.backward()

    withheld(one_step(tmp_path, model, step), "walked backwards twice")


def test_backward_for_some_parameters_reads_those(model: nn.Module, x: Tensor) -> None:
    truth = truth_of(model, x)
    told = captured(model, lambda _: F.cross_entropy(model(x), Y).backward(inputs=[model[2].weight]))
    assert set(told.gradients) == {"2.weight"}
    torch.testing.assert_close(told.gradients["2.weight"], truth.gradients["2.weight"])


# Terms that are not a mean over samples


def test_penalty_on_the_weights_is_withheld(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        (F.cross_entropy(model(x), Y) + 0.05 * sum(p.square().sum() for p in model.parameters())).backward()

    run = one_step(tmp_path, model, step)
    withheld(run, "do not add up to its gradient")
    g = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert logged(run, "grad_norm", 0) == pytest.approx(float(g.norm()), rel=1e-9)
    penalty = 0.05 * float(sum(p.detach().square().sum() for p in model.parameters()))
    assert logged(run, "loss", 0) == pytest.approx(truth_of(model, x).loss() + penalty, rel=1e-9)


@pytest.mark.parametrize("key", INDIVIDUAL)
def test_penalty_is_noticed_whichever_instrument_looks(key: str, model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def loss(m: nn.Module, _: object) -> Tensor:
        return F.cross_entropy(m(x), Y) + 0.05 * sum(p.square().sum() for p in m.parameters())

    run = record(tmp_path, model, [0], loss, instruments=key)
    assert logged(run, key, 0) is None
    assert "do not add up" in reasons(run)[key]


def test_penalty_on_one_small_layer_leaves_out_that_layer(tmp_path: Path) -> None:
    model, x = (
        nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, C)).double(),
        torch.randn(N, 5).double(),
    )

    def step() -> None:
        (F.cross_entropy(model(x), Y) + model[2].weight.square().sum()).backward()

    run, truth = one_step(tmp_path, model, step), truth_of(model, x)
    others = [name for name in truth.gradients if name != "2.weight"]
    for key in ("norm_test", "inner_test", "ortho_test"):
        assert logged(run, key, 0) == pytest.approx(getattr(truth, key)(others), rel=1e-7)
    assert (logged(run, "grad_hist_1d", 0) == truth.histogram(only=others)).all()
    coverage = run._reader.document("coverage")
    assert list(coverage["left_out"]) == ["2.weight"]


def test_gradient_penalty_is_withheld(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        inputs = x.clone().requires_grad_()
        loss = F.cross_entropy(model(inputs), Y)
        (g,) = torch.autograd.grad(loss, inputs, create_graph=True)
        (loss + 30 * g.square().sum()).backward()

    withheld(one_step(tmp_path, model, step), "do not add up to its gradient")


def test_penalty_on_a_gradient_norm_is_withheld(x: Tensor, tmp_path: Path) -> None:
    """Where weights carry gradients backwards, the penalty reaches them past every activation."""
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, C)).double()

    def step() -> None:
        loss = F.cross_entropy(model(x), Y)
        found = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        (loss + sum(g.square().sum() for g in found)).backward()

    run = one_step(tmp_path, model, step)
    withheld(run, "do not add up to its gradient")
    assert set(run._reader.document("coverage")["left_out"]) == {"2.weight", "4.weight"}


def test_hook_of_the_users_that_changes_gradients_is_noticed(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    for p in model.parameters():
        p.register_hook(lambda g: g.clamp(-1e-3, 1e-3))
    run = one_step(tmp_path, model, lambda: F.cross_entropy(model(x), Y).backward())
    withheld(run, "do not add up to its gradient")


def test_module_that_mixes_samples_is_noticed(tmp_path: Path) -> None:
    """Its output keeps samples apart, and so does its copy that is called with one of them: only the sum can tell."""

    class Cumulative(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor, self.head = nn.Parameter(torch.randn(200)), nn.Linear(200, C)

        def forward(self, x: Tensor) -> Tensor:
            return (x.repeat(1, 40) * self.factor).cumsum(0)

    model = nn.Sequential(Cumulative(), nn.Linear(200, C)).double()
    x = torch.randn(N, 5).double()
    run = one_step(tmp_path, model, lambda: F.cross_entropy(model(x), Y).backward())
    left_out = run._reader.document("coverage")["left_out"]
    assert "do not add up" in left_out["0.factor"]


def test_learned_weights_of_losses_are_parameters_without_samples(tmp_path: Path) -> None:
    """Their gradient arrives before any loss's does, and no sample's activations lead to them."""

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.log_scale = nn.Linear(5, C), nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    model, x = Weighted().double(), torch.randn(N, 5).double()

    def step() -> None:
        out, scale = model(x), model.log_scale
        losses = torch.stack([F.cross_entropy(out, Y), F.mse_loss(out, torch.ones_like(out))])
        ((-scale).exp() * losses + scale).sum().backward()

    run = one_step(tmp_path, model, step)
    apart = lambda m: token_losses(m(x).unsqueeze(1), Y.unsqueeze(1))[0] + (m(x) - 1).square().mean(1)  # noqa: E731
    truth = one_at_a_time(model, apart)
    for key in ("norm_test", "inner_test", "ortho_test"):
        assert logged(run, key, 0) == pytest.approx(getattr(truth, key)(["body.weight", "body.bias"]), rel=1e-7)
    assert list(run._reader.document("coverage")["left_out"]) == ["log_scale"]
    assert logged(run, "loss", 0) == pytest.approx(truth.loss(), rel=1e-9)


# Activations that are computed again


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        middle = nn.BatchNorm1d(6) if norm else nn.Identity()
        self.inner = nn.Sequential(nn.Linear(6, 6), middle, nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 6))
        self.first, self.last, self.reentrant = nn.Linear(5, 6), nn.Linear(6, C), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.inner, self.first(x).tanh(), use_reentrant=self.reentrant))


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch-norm"])
def test_checkpointed_layers_are_read(norm: bool, x: Tensor, tmp_path: Path) -> None:
    model = Checkpointed(reentrant=False, norm=norm).double()
    run = one_step(tmp_path, model, lambda: F.cross_entropy(model(x), Y).backward())
    plain = lambda m: m.last(m.inner(m.first(x).tanh()))  # noqa: E731

    def apart(m: nn.Module) -> Tensor:
        return token_losses(plain(m).unsqueeze(1), Y.unsqueeze(1))[0]

    truth = by_copies(model, apart, N) if norm else one_at_a_time(model, apart)
    holds(run, 0, truth)


def test_layers_checkpointed_reentrantly_are_withheld_with_a_reason(x: Tensor, tmp_path: Path) -> None:
    model = Checkpointed(reentrant=True).double()
    run = one_step(tmp_path, model, lambda: F.cross_entropy(model(x), Y).backward())
    withheld(run, "use_reentrant=True")
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert logged(run, "grad_norm", 0) == pytest.approx(float(norm), rel=1e-9)
    assert logged(run, "loss", 0) is not None


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("preserve", [True, False])
def test_checkpointed_training_is_the_same_to_the_last_bit(reentrant: bool, preserve: bool, tmp_path: Path) -> None:
    """A recomputed forward pass draws random numbers and moves running statistics; measuring must not add to them."""

    def train(watched: bool) -> list[Tensor]:
        torch.manual_seed(1)
        model = Checkpointed(reentrant, dropout=0.5, norm=True)
        model.forward = lambda x: model.last(
            checkpoint(model.inner, model.first(x).tanh(), use_reentrant=reentrant, preserve_rng_state=preserve)
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def step(_: int) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(N, 5)), Y).backward()
            optimizer.step()

        if watched:
            record_steps(tmp_path, model, optimizer, range(3), step)
        else:
            for i in range(3):
                step(i)
        return [*(t.clone() for t in model.state_dict().values()), torch.get_rng_state()]

    for mine, plain in zip(train(True), train(False), strict=True):
        assert torch.equal(mine, plain)


# Closures


def test_first_evaluation_of_a_closure_is_the_reading(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    truths, evaluations = [], 0

    def step(_: int) -> None:
        truths.append(truth_of(model, x))

        def closure() -> Tensor:
            nonlocal evaluations
            evaluations += 1
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), Y)
            loss.backward()
            return loss

        optimizer.step(closure)

    run = record_steps(tmp_path, model, optimizer, range(3), step)
    assert evaluations > 6
    for t in range(3):
        holds(run, t, truths[t])


@pytest.mark.parametrize("clear_to", [None, 0.0])
def test_closure_may_take_its_batch_in_parts(
    clear_to: float | None, model: nn.Module, x: Tensor, tmp_path: Path
) -> None:
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    truths = []

    def step(_: int) -> None:
        truths.append(truth_of(model, x))

        def closure() -> Tensor:
            optimizer.zero_grad(set_to_none=clear_to is None)
            total = torch.zeros(())
            for part, labels in zip(x.chunk(2), Y.chunk(2), strict=True):
                loss = F.cross_entropy(model(part), labels) / 2
                loss.backward()
                total = total + loss.detach()
            return total

        optimizer.step(closure)

    run = record_steps(tmp_path, model, optimizer, range(2), step)
    for t in range(2):
        holds(run, t, truths[t], keys=["loss", "grad_norm", "norm_test", "grad_hist_1d"])


def test_evaluation_without_a_gradient_is_invisible(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        with torch.no_grad():
            F.cross_entropy(model(x[:3]), Y[:3])
        F.cross_entropy(model(x), Y).backward()
        model.eval()
        F.cross_entropy(model(x[:2]), Y[:2])
        model.train()

    holds(one_step(tmp_path, model, step), 0, truth_of(model, x))


def test_frozen_trunk_and_trained_head(x: Tensor, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, C)).double()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.0)
    run = record(tmp_path, model, [0], lambda m, _: F.cross_entropy(m(x), Y), optimizer)
    truth = truth_of(model, x)
    assert set(truth.gradients) == {"2.weight", "2.bias"}
    holds(run, 0, truth)


def test_layers_that_a_step_does_not_use_are_not_missed(x: Tensor, tmp_path: Path) -> None:
    """Stochastic depth: most of the parameters may sit out, and what remains is the whole gradient."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.skipped, self.head = nn.Linear(5, 500), nn.Linear(5, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x)

    model = Deep().double()
    run = one_step(tmp_path, model, lambda: F.cross_entropy(model(x), Y).backward())
    truth = truth_of(model, x)
    used = ["head.weight", "head.bias"]
    for key in ("grad_norm", "norm_test", "inner_test", "ortho_test"):
        assert logged(run, key, 0) == pytest.approx(getattr(truth, key)(used), rel=1e-7)
    assert (logged(run, "grad_hist_1d", 0) == truth.histogram(only=used)).all()


def test_every_key_is_looked_at_here() -> None:
    assert {*INDIVIDUAL, "loss", "grad_norm"} == set(GRADIENT_KEYS)


def test_step_in_which_a_backward_pass_broke_off_is_withheld(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    """The user catches the error and goes on in the same step."""

    def fail(_: Tensor) -> None:
        raise ValueError("the user's own")

    def step() -> None:
        out = model[0](x)
        out.register_hook(fail)
        with pytest.raises(ValueError, match="own"):
            F.cross_entropy(model[2](model[1](out)), Y).backward()
        model.zero_grad()
        F.cross_entropy(model(x), Y).backward()

    run = one_step(tmp_path, model, step)
    withheld(run, "did not come to its end")
    assert logged(run, "grad_norm", 0) is None
