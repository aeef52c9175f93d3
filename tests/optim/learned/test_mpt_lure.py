"""MPT_LURE: half precision and a scaled loss, which nothing unscales."""

import pytest
import torch
import torch.nn.functional as F
from rules import TASK, chance, network, picked, problems, weights

from cockpit import Cockpit, load_run
from cockpit.optim.learned import MPT_LURE, MPTLURERule, Unrolled, Weights
from cockpit.optim.learned.cohort import Cohort
from cockpit.optim.learned.rule import Signals

RULE = MPTLURERule(TASK.shapes, scale=64.0, gain=0.1)
LEARNED = weights(RULE, torch.float32)


def values(model):
    return [p.detach().clone() for p in model.parameters()]


def loss_of(model):
    data = picked(problems(1)[1], 0)
    return F.mse_loss(model(data["x"].float()), data["y"].float())


def stepped(scaled, **settings):
    model = network().float()
    optimizer = MPT_LURE(model.parameters(), LEARNED)
    before = values(model)
    scaled(optimizer, loss_of(model), **settings)
    return [p - q for p, q in zip(values(model), before, strict=True)]


def own(optimizer, loss):
    optimizer.scale(loss).backward()
    optimizer.step()


def by_hand(optimizer, loss):
    (64.0 * loss).backward()
    optimizer.gradients_are_scaled()
    optimizer.step()


def plain(optimizer, loss):
    loss.backward()
    optimizer.step()


def by_scaler(optimizer, loss):
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()


def test_the_step_is_the_hyperbolic_tangent_of_both_weights_and_the_scaled_gradient():
    model = network().float()
    gradients = torch.autograd.grad(loss_of(model), list(model.parameters()))
    for step, gradient, (name, _) in zip(stepped(own), gradients, TASK.shapes, strict=True):
        both = LEARNED.meta[f"a.{name}"] * LEARNED.meta[f"b.{name}"]
        torch.testing.assert_close(step, -torch.tanh(both * 64.0 * gradient))


@pytest.mark.parametrize("way", [by_hand, plain, by_scaler])
def test_whatever_scaled_the_gradient_the_step_is_the_same(way):
    for step, expected in zip(stepped(way), stepped(own), strict=True):
        torch.testing.assert_close(step, expected, rtol=1e-5, atol=1e-8)


def test_a_step_whose_gradients_overflow_is_skipped():
    model = network().float()
    optimizer = MPT_LURE(model.parameters(), LEARNED)
    before = values(model)
    optimizer.scale(loss_of(model)).backward()
    model[2].bias.grad.fill_(float("inf"))
    optimizer.step()
    assert optimizer.skipped
    assert all(torch.equal(p, q) for p, q in zip(values(model), before, strict=True))
    optimizer.zero_grad()
    own(optimizer, loss_of(model))
    assert not optimizer.skipped
    assert not all(torch.equal(p, q) for p, q in zip(values(model), before, strict=True))


def test_the_rule_itself_leaves_a_training_whose_gradients_overflow_where_it_is():
    params = picked(problems(1)[0], 0)
    gradients = {name: torch.ones_like(p) for name, p in params.items()}
    gradients["2.bias"] = torch.full_like(params["2.bias"], float("nan"))
    new, _ = RULE.update(LEARNED.meta, gradients, params, {}, Signals(*[torch.zeros(())] * 4))
    assert all(torch.equal(new[name], p) for name, p in params.items())


def test_meta_training_runs_forward_and_backward_in_half_precision():
    params, data = TASK.sample(1, chance(1))
    params, data = picked(params, 0), picked(data, 0)
    loss, gradients = RULE.gradients(LEARNED.meta, TASK, params, data)
    half = {name: p.half().requires_grad_() for name, p in params.items()}
    expected = TASK.loss(half, {name: t.half() for name, t in data.items()})
    found = torch.autograd.grad(expected, list(half.values()), torch.tensor(64.0).half())
    assert loss == expected.float()
    for gradient, reference in zip(gradients.values(), found, strict=True):
        assert gradient.dtype == torch.float32
        assert torch.equal(gradient, reference.float())
    cohort = Cohort(RULE, TASK, copies=2, horizon=5, length=5, sides=1, generator=chance())
    estimate = Unrolled(5, through_gradients=False).estimate(cohort, LEARNED.meta, torch.mean, chance())
    assert all(g.isfinite().all() and g.any() for name, g in estimate.gradients.items() if name.startswith("b."))


def test_instruments_report_unscaled_values_and_the_scale(tmp_path):
    runs = []
    for number, learned in enumerate((LEARNED, Weights(MPTLURERule(TASK.shapes, scale=1.0), LEARNED.meta))):
        model = network().float()
        optimizer = MPT_LURE(model.parameters(), learned)
        path = tmp_path / str(number)
        with Cockpit(model, optimizer, run=path, track=1, instruments="loss+grad_norm+norm_test+amp+clip") as cockpit:
            for max_norm in (None, 0.01):
                with cockpit.step():
                    optimizer.zero_grad()
                    optimizer.scale(loss_of(model)).backward()
                    if max_norm:
                        optimizer.clip_grad_norm_(max_norm)
                    optimizer.step()
        runs.append(load_run(path))
    scaled, unscaled = runs
    assert scaled["amp"].values[0] == 64.0
    for key in ("loss", "grad_norm", "norm_test"):
        assert scaled[key].values[0] == pytest.approx(unscaled[key].values[0], rel=1e-5), key
    assert list(scaled["clip"].missing) == [True, False]
    assert scaled["clip.norm"].values[-1] == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize(("settings", "words"), [
    ({"scale": 0.0}, "a loss scale is positive; got scale=0.0"),
    ({"precision": "float8"}, "precision is one of float16, bfloat16, float32, float64; got 'float8'"),
])  # fmt: skip
def test_what_is_no_setting_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        MPTLURERule(TASK.shapes, **settings)
