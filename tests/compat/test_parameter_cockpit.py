"""A cockpit made of parameters, around the backward pass alone."""

from __future__ import annotations

import copy
import functools
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from backpack.extensions import BatchGrad, BatchL2Grad
from harness import GRADIENT_KEYS, by_layer, holds, logged
from reference import by_copies, one_at_a_time, token_losses
from script import N, Script, finished
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from cockpit import Cockpit, CockpitWarning, load_run
from cockpit.quantities import Alpha, GradNorm, Loss, UpdateSize
from cockpit.utils.configuration import configuration
from cockpit.utils.schedules import linear

# torch's own remark on full backward hooks, of the first layer that is extended
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


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
    cockpit = Cockpit([*encoder.parameters(), *decoder.parameters()], ["norm_test"], run=tmp_path / "run")
    script.optimizer.zero_grad()
    scores = decoder(encoder(script.x).tanh())
    loss = script.loss(scores, script.y)
    with cockpit(0, info={"optimizer": script.optimizer, "loss": loss}):
        loss.backward()
    run = finished(cockpit)
    truth = by_copies(
        script.model,
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
    gc.collect()  # cockpits of other tests that were not closed
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
