"""A cockpit made of parameters, around the backward pass alone."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backpack import extend
from backpack.extensions import BatchGrad, BatchL2Grad
from harness import GRADIENT_KEYS, by_layer, holds, logged
from reference import by_copies, one_at_a_time, token_losses
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from cockpit import Cockpit, CockpitWarning, load_run
from cockpit.compat import ParameterCockpit
from cockpit.quantities import Alpha, GradHist1d, GradNorm, Loss, NormTest, Quantity, UpdateSize
from cockpit.run import Run
from cockpit.utils.configuration import configuration
from cockpit.utils.schedules import linear, logarithmic

N = 6

# torch's own remark on full backward hooks, of the first layer that is extended
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


class Script:
    """What a script for f-dangel/cockpit consists of, in float64."""

    def __init__(self, reduction: str = "mean", weight: Tensor | None = None, model: nn.Module | None = None) -> None:
        torch.manual_seed(0)
        layers = (nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        self.model = extend((nn.Sequential(*layers) if model is None else model).double())
        self.loss = extend(nn.CrossEntropyLoss(weight, reduction=reduction))
        self.losses = nn.CrossEntropyLoss(weight, reduction="none")
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.x, self.y = torch.randn(N, 4).double(), torch.arange(N) % 3
        self.before: list[nn.Module] = []

    def cockpit(self, *quantities: Any, **options: Any) -> Any:
        return Cockpit(self.model.parameters(), quantities=list(quantities), **options)

    def step(self, cockpit: Any, index: int, *exts: Any, **info: Any) -> None:
        self.optimizer.zero_grad()
        self.before.append(copy.deepcopy(self.model))
        scores = self.model(self.x)
        loss, losses = self.loss(scores, self.y), self.losses(scores, self.y)
        given = {"batch_size": N, "individual_losses": losses, "loss": loss, "optimizer": self.optimizer, **info}
        with cockpit(index, *exts, info=given):
            loss.backward(create_graph=cockpit.create_graph(index))
        self.optimizer.step()

    def step_and_close(self, cockpit: Any) -> None:
        self.step(cockpit, 0)
        cockpit.close()

    def truth(self, step: int) -> Any:
        return by_copies(self.before[step], lambda m: token_losses(m(self.x).unsqueeze(1), self.y.unsqueeze(1))[0], N)


@pytest.fixture
def script() -> Script:
    return Script()


def finished(cockpit: Any) -> Run:
    cockpit.close()
    return load_run(cockpit.run)


@pytest.mark.parametrize("backend", ["cockpit", "backpack"])
def test_readings_match_brute_force(script: Script, tmp_path: Path, backend: str) -> None:
    cockpit = script.cockpit(*GRADIENT_KEYS, run=tmp_path / "run", backend=backend)
    for step in range(3):
        script.step(cockpit, step)
    run = finished(cockpit)
    for step in range(3):
        holds(run, step, script.truth(step))


def test_steps_are_measured_whatever_the_optimizer_does(script: Script, tmp_path: Path) -> None:
    cockpit = script.cockpit(UpdateSize(linear(1)), Alpha(linear(1)), run=tmp_path / "run")
    for step in range(4):
        script.step(cockpit, step)
    run = finished(cockpit)
    for step in range(3):
        old, new = (dict(m.named_parameters()) for m in script.before[step : step + 2])
        moved = sum(float((new[name] - old[name]).detach().square().sum()) for name in old) ** 0.5
        assert logged(run, "update_size", step) == pytest.approx(moved)
        assert logged(run, "alpha", step) is not None


def test_a_summed_loss_and_class_weights_are_those_of_the_extended_loss(tmp_path: Path) -> None:
    for name, script in {
        "sum": Script(reduction="sum"),
        "weighted": Script(weight=torch.tensor([1.0, 2.0, 5.0]).double()),
    }.items():
        cockpit = script.cockpit("norm_test", run=tmp_path / name)
        script.step(cockpit, 0)
        run = finished(cockpit)
        of = functools.partial(token_losses, targets=script.y.unsqueeze(1), weight=script.loss.weight)
        weights = of(script.model(script.x).unsqueeze(1))[1].detach()
        truth = one_at_a_time(script.before[0], lambda m, s=script, of=of: of(m(s.x).unsqueeze(1))[0], weights)
        assert logged(run, "norm_test", 0) == pytest.approx(truth.norm_test()), name


class Own(nn.Module):
    """A loss that is no module of PyTorch's."""

    def forward(self, scores: Tensor, y: Tensor) -> Tensor:
        return -scores.log_softmax(1).gather(1, y.unsqueeze(1)).mean()


@pytest.mark.parametrize("factor", [1, N])
def test_without_an_extended_loss_the_individual_losses_are_taken(script: Script, tmp_path: Path, factor: int) -> None:
    script.loss = lambda scores, y: factor * Own()(scores, y)
    cockpit = script.cockpit("norm_test", "loss", "alpha", run=tmp_path / "run")
    for step in range(2):
        script.step(cockpit, step)
    run = finished(cockpit)
    assert logged(run, "norm_test", 0) == pytest.approx(script.truth(0).norm_test())
    assert logged(run, "loss", 0) == pytest.approx(factor * script.truth(0).loss())
    assert logged(run, "alpha", 0) is not None


def test_individual_losses_that_are_not_those_of_the_loss_are_refused(script: Script, tmp_path: Path) -> None:
    script.loss = lambda scores, y: 1.5 * Own()(scores, y)
    cockpit = script.cockpit("norm_test", run=tmp_path / "run")
    with pytest.warns(CockpitWarning, match="neither the mean nor the sum of the individual losses"):
        script.step_and_close(cockpit)
    assert logged(load_run(cockpit.run), "norm_test", 0) is None


def test_modules_that_were_not_extended_are_named(tmp_path: Path) -> None:
    script = Script()
    script.model = copy.deepcopy(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))).double()
    script.optimizer = torch.optim.SGD(script.model.parameters(), lr=0.1)
    cockpit = script.cockpit("grad_norm", run=tmp_path / "run")
    with pytest.warns(CockpitWarning, match=r"0, 2 are not extended.*call backpack\.extend"):
        script.step_and_close(cockpit)
    assert logged(load_run(cockpit.run), "grad_norm", 0) == pytest.approx(script.truth(0).grad_norm())


def test_every_quantity_keeps_its_own_schedule(script: Script, tmp_path: Path) -> None:
    cockpit = script.cockpit(Loss(linear(2)), GradNorm(linear(3, offset=1)), run=tmp_path / "run")
    for step in range(8):
        script.step(cockpit, step)
    run = finished(cockpit)
    assert run["loss"].steps.tolist() == [0, 2, 4, 6]
    assert run["grad_norm"].steps.tolist() == [1, 4, 7]


def test_steps_keep_the_numbers_that_they_were_given(script: Script, tmp_path: Path) -> None:
    cockpit = script.cockpit(Loss(linear(1)), Alpha(linear(1)), run=tmp_path / "run")
    for step in (10, 11, 20, 21, 22):
        script.step(cockpit, step)
    run = finished(cockpit)
    assert run["loss"].steps.tolist() == [10, 11, 20, 21, 22]
    assert run["alpha"].steps.tolist() == [10, 20, 21], "nothing is measured over a gap"


def test_some_of_the_parameters_are_watched(script: Script, tmp_path: Path) -> None:
    cockpit = Cockpit(script.model[2].parameters(), [GradNorm(linear(1))], run=tmp_path / "run")
    script.step(cockpit, 0)
    run = finished(cockpit)
    assert set(by_layer(run, "grad_norm", 0)) == {"2.weight", "2.bias"}
    assert logged(run, "grad_norm", 0) == pytest.approx(script.truth(0).grad_norm(["2.weight", "2.bias"]))


def test_two_modules_that_are_called_one_after_the_other(tmp_path: Path) -> None:
    encoder, decoder = nn.Linear(4, 5), nn.Linear(5, 3)
    script = Script(model=nn.ModuleList([encoder, decoder]))
    script.model = extend(nn.Sequential(encoder, decoder))
    cockpit = Cockpit([*encoder.parameters(), *decoder.parameters()], ["norm_test"], run=tmp_path / "run")
    apart = script.model
    script.model = type("Apart", (nn.Sequential,), {})(encoder, decoder)
    script.model.forward = lambda x: decoder(encoder(x).tanh())
    script.model.__call__ = script.model.forward
    script.optimizer.zero_grad()
    scores = decoder(encoder(script.x).tanh())
    loss = script.loss(scores, script.y)
    with cockpit(0, info={"optimizer": script.optimizer, "loss": loss}):
        loss.backward()
    run = finished(cockpit)
    truth = by_copies(
        nn.ModuleList(apart),
        lambda m: token_losses(m[1](m[0](script.x).tanh()).unsqueeze(1), script.y.unsqueeze(1))[0],
        N,
    )
    assert logged(run, "norm_test", 0) == pytest.approx(truth.norm_test())


def trajectory(script: Script, cockpit: Any, steps: int = 5) -> list[Tensor]:
    for step in range(steps):
        script.step(cockpit, step)
    return [t.clone() for p in script.model.parameters() for t in (p.detach(), p.grad)]


class Nothing:
    """A cockpit that does nothing."""

    def create_graph(self, step: int) -> bool:
        return False

    def __call__(self, step: int, *exts: Any, info: Any) -> Any:
        from contextlib import nullcontext

        return nullcontext()


def attributes(model: nn.Module) -> list[dict[str, Any]]:
    return [{k: dict(v) if isinstance(v, dict) else v for k, v in vars(m).items()} for m in model.modules()]


def test_training_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    plain, watched = Script(), Script()
    expected = trajectory(plain, Nothing())
    cockpit = watched.cockpit(*configuration("full"), run=tmp_path / "run")
    random = torch.get_rng_state()
    found = trajectory(watched, cockpit)
    cockpit.close()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    kept = [sorted(a) for a in attributes(plain.model)]
    assert [sorted(a) for a in attributes(watched.model)] == kept
    assert not watched.optimizer._optimizer_step_post_hooks
    assert not any(p._backward_hooks for p in watched.model.parameters())


def test_extensions_of_the_users_own_run_once_and_with_their_own_numbers(script: Script, tmp_path: Path) -> None:
    cockpit = script.cockpit("norm_test", run=tmp_path / "run")
    script.step(cockpit, 0, BatchGrad(), BatchL2Grad())
    cockpit.close()
    for (name, p), (other, rows) in zip(
        script.model.named_parameters(), script.truth(0).gradients.items(), strict=True
    ):
        assert name == other
        torch.testing.assert_close(p.grad_batch * N, rows)
        torch.testing.assert_close(p.batch_l2 * N**2, rows.flatten(1).square().sum(1))


def test_the_hook_on_all_modules_is_gone_after_the_first_step(script: Script, tmp_path: Path) -> None:
    before = len(torch_module._global_forward_pre_hooks)
    cockpit = script.cockpit("loss", run=tmp_path / "run")
    assert len(torch_module._global_forward_pre_hooks) == before + 1
    script.step(cockpit, 0)
    assert len(torch_module._global_forward_pre_hooks) == before
    cockpit.close()
    unused = script.cockpit("loss", run=tmp_path / "other")
    reference = weakref.ref(unused)
    del unused
    gc.collect()
    assert reference() is None
    assert len(torch_module._global_forward_pre_hooks) == before


def test_an_exception_of_the_training_passes_and_its_step_is_not_logged(script: Script, tmp_path: Path) -> None:
    cockpit = script.cockpit("loss", run=tmp_path / "run")
    script.step(cockpit, 0)

    def broken() -> Iterator[None]:
        with cockpit(1, info={"optimizer": script.optimizer}):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    script.step(cockpit, 1)
    assert finished(cockpit)["loss"].steps.tolist() == [0, 1]


def test_output_is_by_step_and_by_name(script: Script, tmp_path: Path) -> None:
    quantities = [q(linear(1)) for q in (Loss, GradNorm, NormTest)] + [GradHist1d(linear(1), bins=4)]
    cockpit = script.cockpit(*quantities, run=tmp_path / "run")
    cockpit.log(0, 0, 1.0, 2.0, 3.0, 0.1, 0.2, 0.3, 0.5)
    assert cockpit.get_output()[0]["valid_loss"] == 2.0
    script.step(cockpit, 0)
    truth, output = script.truth(0), cockpit.get_output()[0]
    assert output["Loss"] == pytest.approx(truth.loss())
    assert output["GradNorm"] == pytest.approx([truth.grad_norm([name]) for name in truth.gradients])
    assert output["NormTest"] == pytest.approx(truth.norm_test())
    np.testing.assert_array_equal(output["GradHist1d"]["hist"], truth.histogram(-2, 2, 4))
    np.testing.assert_array_equal(output["GradHist1d"]["edges"], [-2, -1, 0, 1, 2])
    assert output["train_accuracy"] == 0.1
    assert output["learning_rate"] == 0.1
    assert load_run(cockpit.run)["valid/loss"].values.tolist() == [2.0]
    cockpit.close()


def test_without_quantities_only_what_is_logged_is_there(script: Script) -> None:
    cockpit = Cockpit(script.model.parameters())
    script.step(cockpit, 0)
    cockpit.log(3, 1, 1.0, 2.0, 3.0, 0.1, 0.2, None, 0.5)
    assert cockpit.run is None
    assert list(cockpit.get_output()) == [3]
    assert cockpit.output[3]["test_accuracy"] is None


@pytest.mark.parametrize("by", ["environment", "argument"])
def test_a_cockpit_that_is_turned_off_lets_everything_pass(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "environment":
        monkeypatch.setenv("COCKPIT_DISABLE", "1")
    hooks = len(torch_module._global_forward_pre_hooks)
    cockpit = script.cockpit("loss", run=tmp_path / "run", enabled=by == "environment")
    script.step(cockpit, 0, BatchGrad())
    cockpit.write(tmp_path / "log")
    cockpit.log(1, 1, 1.0, 2.0, 3.0, 0.1, 0.2, 0.3, 0.5)
    cockpit.close()
    assert len(torch_module._global_forward_pre_hooks) == hooks
    assert list(cockpit.get_output()) == [1]
    assert script.model[0].weight.grad_batch.shape[0] == N
    assert not (tmp_path / "run").exists()


MISTAKES: dict[str, tuple[Callable[[Script], Any], type[Exception], str]] = {
    "used up": (lambda s: Cockpit(iter([])), ValueError, "no parameters were given; was the generator"),
    "frozen": (lambda s: Cockpit([nn.Parameter(torch.ones(2), False)]), ValueError, r"shape \[2\] has requires_grad"),
    "no tensor": (lambda s: Cockpit([3]), TypeError, "or parameters of one, got int among the parameters"),
    "no quantity": (lambda s: s.cockpit(3), ValueError, "a quantity of cockpit.quantities or an instrument was"),
    "no optimizer": (lambda s: s.cockpit("loss")(0, info={}), ValueError, "the optimizer is missing: write"),
    "too late": (
        lambda s: s.cockpit("loss")(0, info={"optimizer": s.optimizer}),
        RuntimeError,
        "4 of the parameters belong to no module that was called since the cockpit was made",
    ),
    "adaptive bins": (lambda s: GradHist1d(linear(1), adapt=3), ValueError, "bins that adapt are not supported"),
    "label": (lambda s: configuration("tiny"), ValueError, "a configuration is one of economy, business, full"),
    "interval": (lambda s: linear(0), ValueError, "the interval must be at least 1"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(script: Script, name: str) -> None:
    make, error, words = MISTAKES[name]
    with pytest.raises(error, match=words):
        make(script)


def test_quantities_are_added_before_the_run_begins(script: Script, tmp_path: Path) -> None:
    cockpit = script.cockpit(run=tmp_path / "run")
    cockpit.add(Loss(linear(1)))
    script.step(cockpit, 0)
    with pytest.raises(RuntimeError, match="quantities are added before the first step"):
        cockpit.add(GradNorm(linear(1)))
    cockpit.close()


def test_schedules() -> None:
    assert [step for step in range(12) if linear(4, offset=2)(step)] == [2, 6, 10]
    assert [step for step in range(1001) if logarithmic(0, 3, steps=4)(step)] == [0, 1, 10, 100, 1000]
    assert not logarithmic(0, 1, init=False)(0)


def test_the_kind_of_cockpit_depends_on_the_first_argument(script: Script, tmp_path: Path) -> None:
    assert isinstance(Cockpit(script.model.parameters(), None), ParameterCockpit)
    params = list(script.model.parameters())
    assert isinstance(Cockpit(params, [Loss(linear(1))]), ParameterCockpit)
    with pytest.raises(TypeError, match="got list"):
        Cockpit(params, script.optimizer)
    assert list(inspect.signature(Cockpit).parameters)[:2] == ["model", "optimizer"]


def test_every_quantity_says_what_it_is_and_is_an_instrument_of_its_name() -> None:
    from cockpit import quantities

    named = [c for c in vars(quantities).values() if isinstance(c, type) and hasattr(c, "key")]
    assert all(issubclass(cls, Quantity) for cls in named)
    for cls in named:
        assert inspect.getdoc(cls)
        instrument = cls(linear(3)).instrument()
        assert type(instrument).__name__ == cls.__name__
        assert [step for step in range(7) if instrument.schedule(step)] == [0, 3, 6]


def test_a_script_that_ends_leaves_a_finished_run_and_one_that_breaks_does_not(tmp_path: Path) -> None:
    program = """
import sys, torch
from backpack import extend
from cockpit import Cockpit
model, loss_fn = extend(torch.nn.Linear(2, 2)), extend(torch.nn.MSELoss())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
cockpit = Cockpit(model.parameters(), ["loss"], run=sys.argv[1])
loss = loss_fn(model(torch.ones(3, 2)), torch.ones(3, 2))
with cockpit(0, info={"optimizer": optimizer}):
    loss.backward()
1 / int(sys.argv[2])
"""
    for number, state in (("1", "finished"), ("0", "interrupted")):
        subprocess.run([sys.executable, "-c", program, tmp_path / number, number], capture_output=True)
        run = load_run(tmp_path / number)
        assert run.state == state
        assert run["loss"].steps.tolist() == [0]
