"""Several optimizers, and optimizers that step elsewhere."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loop import ECONOMY, Loop, hooks, open_steps
from torch import nn

from cockpit import Cockpit, CockpitWarning, load_run


class Pair(nn.Module):
    """A generator and a discriminator, as in adversarial training."""

    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, z):
        return self.discriminator(self.generator(z)).squeeze(1)


def test_a_learning_rate_that_is_no_number_is_left_out(begin, loop, tmp_path):
    loop.optimizer.param_groups[0]["lr"] = torch.tensor(0.5)
    loop.optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": "as before"})
    loop.optimizer.param_groups[1]["params"] = []
    cockpit = begin(instruments="loss")
    loop.steps(cockpit, 2)
    cockpit.close()
    assert list(load_run(tmp_path / "run")["learning_rate"].values) == [0.5, 0.5]


def test_two_optimizers_are_watched_together(tmp_path):
    torch.manual_seed(0)
    model = Pair()
    first = torch.optim.SGD(model.generator.parameters(), lr=0.1)
    second = torch.optim.Adam(model.discriminator.parameters(), lr=0.01)
    start = [p.detach().clone() for p in model.parameters()]
    with Cockpit(model, [first, second], run=tmp_path / "run", track=1) as cockpit:
        for _ in range(3):
            with cockpit.step():
                model.zero_grad()
                F.binary_cross_entropy_with_logits(model(torch.randn(8, 2)), torch.ones(8)).backward()
                first.step()
                second.step()
    run = load_run(tmp_path / "run")
    assert run["learning_rate"].layers.names == ("group 0", "group 1")
    assert run["learning_rate"].layers.values.tolist() == [[0.1, 0.01]] * 3
    assert set(run["update_size"].layers.names) == {name for name, _ in model.named_parameters()}
    assert (run["update_size"].layers.values > 0).all()
    assert not run["alpha"].missing.any()
    assert [entry["class"] for entry in run.header.optimizer] == ["SGD", "Adam"]
    moved = torch.cat([(p - q).flatten() for p, q in zip(model.parameters(), start, strict=True)]).norm()
    assert run["distance"].values[2] < moved


def test_an_adversarial_step_of_two_backward_passes_goes_through(tmp_path):
    torch.manual_seed(0)
    model = Pair()
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model.discriminator, model.generator)]
    instruments = "loss+update_size+grad_norm"
    with (  # noqa: PT031 - the step is what warns, and it is a block
        pytest.warns(CockpitWarning, match="gradients were cleared or changed between two backward passes"),
        Cockpit(model, optimizers, run=tmp_path / "run", track=1, instruments=instruments) as cockpit,
    ):
        for _ in range(3):
            with cockpit.step():
                for optimizer, target in zip(optimizers, (0.0, 1.0), strict=True):
                    model.zero_grad()
                    scores = model(torch.randn(8, 2))
                    F.binary_cross_entropy_with_logits(scores, torch.full((8,), target)).backward()
                    optimizer.step()
    run = load_run(tmp_path / "run")
    assert run["loss"].missing.all()
    assert run["grad_norm"].missing.all()
    assert (run["update_size"].layers.values > 0).all()


@pytest.mark.parametrize("optimizers", [1, 2])
def test_an_optimizer_may_step_after_the_block(optimizers, tmp_path):
    readings = []
    for outside in (False, True):
        loop = Loop()
        parts = [loop.model[0].parameters(), loop.model[2].parameters()]
        several = [torch.optim.SGD(p, lr=0.1) for p in parts] if optimizers == 2 else [loop.optimizer]
        with Cockpit(loop.model, several, run=tmp_path / str(outside), track=1) as cockpit:
            for _ in range(5):
                with cockpit.step():
                    loop.backward()
                    if not outside:
                        for optimizer in several:
                            optimizer.step()
                if outside:
                    for optimizer in several:
                        optimizer.step()
                    loop.model(torch.ones(2, 4)).sum().backward()  # not the training's business
        assert hooks(loop.model, *several) == 0
        run = load_run(tmp_path / str(outside))
        readings.append({key: run[key].values for key in ("update_size", "distance", "alpha", "learning_rate")})
    for key, values in readings[0].items():
        np.testing.assert_array_equal(values, readings[1][key])
    assert len(readings[1]["update_size"]) == 5


def test_a_step_is_let_go_once_its_optimizer_has_stepped(begin, loop):
    cockpit = begin()
    for _ in range(2):
        with cockpit.step():
            loop.backward()
        assert open_steps(loop) == 1
        loop.optimizer.step()
        assert open_steps(loop) == 0
    loop.steps(cockpit, 1)
    assert open_steps(loop) == 0


@pytest.mark.parametrize(("factor", "skipped"), [(1.0, False), (float("inf"), True)])
def test_a_step_that_a_gradient_scaler_skips_moves_nothing(factor, skipped, begin, loop, tmp_path):
    scaler = torch.amp.GradScaler("cpu")
    cockpit = begin(instruments="loss+update_size+grad_norm")
    for _ in range(2):
        with cockpit.step():
            loop.optimizer.zero_grad()
            loss = F.cross_entropy(loop.model(torch.randn(8, 4)), torch.randint(3, (8,)))
            scaler.scale(loss * factor).backward()
            scaler.step(loop.optimizer)
            scaler.update()
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert ((run["update_size"].values == 0) == skipped).all()
    assert len(run["update_size"].steps) == 2
    assert hooks(loop.model, loop.optimizer) == 0


def test_an_optimizer_may_have_other_hooks_that_come_after(begin, loop):
    cockpit = begin()
    called = []
    for _ in range(3):
        with cockpit.step():
            loop.backward()
        handle = loop.optimizer.register_step_post_hook(lambda *_: called.append(1))
        loop.optimizer.step()
        handle.remove()
    assert called == [1, 1, 1]


def test_the_last_step_is_read_even_if_its_optimizer_never_steps(begin, loop, tmp_path):
    cockpit = begin(instruments="loss+update_size")
    with cockpit.step():
        loop.backward()
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["update_size"].values) == [0.0]
    assert hooks(loop.model, loop.optimizer) == 0


def test_the_learning_rate_is_the_one_that_the_step_was_made_with(begin, loop, tmp_path):
    schedule = torch.optim.lr_scheduler.LambdaLR(loop.optimizer, lambda step: 0.5**step)
    cockpit = begin(instruments="loss")
    for _ in range(3):
        with cockpit.step():
            loop.update()
            schedule.step()
    cockpit.close()
    assert list(load_run(tmp_path / "run")["learning_rate"].values) == [0.1, 0.05, 0.025]


def test_evaluation_between_steps_is_invisible(tmp_path):
    readings = []
    for evaluate in (False, True):
        loop = Loop()
        with Cockpit(loop.model, loop.optimizer, run=tmp_path / str(evaluate), track=1) as cockpit:
            for _ in range(4):
                with cockpit.step():
                    loop.update()
                if evaluate:
                    state = torch.get_rng_state()
                    loop.model.eval()
                    F.cross_entropy(loop.model(torch.randn(5, 4)), torch.randint(3, (5,))).backward()
                    with torch.no_grad():
                        loop.model(torch.randn(3, 4))
                    loop.model.train()
                    torch.set_rng_state(state)
        run = load_run(tmp_path / str(evaluate))
        readings.append({key: run[key].values for key in ECONOMY - {"time"}})
    for key, values in readings[0].items():
        np.testing.assert_array_equal(values, readings[1][key])
