import dataclasses
import functools
import math

import pytest
import torch
from torch import nn

from cockpit import Cockpit, load_run
from cockpit.optim.learned import ml3
from cockpit.optim.learned.ml3 import ML3, ML3Rule, PlainSines, learned_losses
from cockpit.optim.learned.rule import Signals
from cockpit.optim.learned.tasks import Task
from cockpit.optim.learned.training import MetaTraining, trained
from cockpit.optim.learned.weights import Weights

TASK = PlainSines(widths=(1, 6, 4, 1), points=9, seed=0)
SIGNALS = Signals(*torch.zeros(4))


def meta_of(rule, seed=0):
    return rule.meta_parameters(torch.Generator().manual_seed(seed))


def doubled(tensors):
    return {name: tensor.double() for name, tensor in tensors.items()}


def as_modules(meta):
    """The learned loss as the source writes it."""
    layers = []
    for weight in meta.values():
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
        layer.weight = nn.Parameter(weight.clone())
        layers += [layer, nn.ReLU()]
    layers[-1] = nn.Softplus()
    return nn.Sequential(*layers)


def problem():
    params, data = TASK.sample(1, torch.Generator().manual_seed(3))
    return {name: p[0].double() for name, p in params.items()}, {name: d[0].double() for name, d in data.items()}


def test_the_learned_loss_is_the_sources_network():
    meta = doubled(meta_of(ML3Rule(outputs=3)))
    assert [tuple(weight.shape) for weight in meta.values()] == [(50, 6), (50, 50), (1, 50)]
    prediction, target = torch.randn(2, 7, 3, dtype=torch.float64)
    expected = as_modules(meta)(torch.cat([prediction, target], dim=1))[:, 0]
    torch.testing.assert_close(learned_losses(meta, prediction, target), expected)


def test_a_gain_of_a_tenth_scales_what_stands_before_the_softplus_by_a_thousandth():
    sample = torch.tensor([[0.3]]), torch.tensor([[-0.8]])

    def before_softplus(rule):
        return math.log(math.expm1(learned_losses(doubled(meta_of(rule)), *(t.double() for t in sample)).item()))

    assert before_softplus(ML3Rule(gain=0.1)) == pytest.approx(1e-3 * before_softplus(ML3Rule()))


def test_the_gradient_is_that_of_the_learned_loss():
    rule, (params, batch) = ML3Rule(), problem()
    meta = doubled(meta_of(rule))
    loss, gradients = rule.gradients(meta, TASK, params, batch)
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    inputs = torch.cat([TASK.predict(leaves, batch["x"]), batch["y"]], dim=1)
    expected = as_modules(meta)(inputs).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradients, {name: leaf.grad for name, leaf in leaves.items()})


def test_the_meta_gradient_is_the_slope_of_the_error_after_the_step():
    rule, (params, batch) = ML3Rule(learning_rate=0.5), problem()
    meta = doubled(meta_of(rule))

    def error(meta):
        _, gradients = rule.gradients(meta, TASK, params, batch)
        after, _ = rule.update(meta, gradients, params, {}, SIGNALS)
        return TASK.outer_loss(after, batch)

    slopes = torch.func.grad(error)(meta)
    for name, place in (("loss.0", (3, 1)), ("loss.1", (0, 7)), ("loss.2", (0, 4))):
        apart = []
        for change in (1e-6, -1e-6):
            changed = {**meta, name: meta[name].clone()}
            changed[name][place] += change
            apart.append(error(changed).item())
        assert slopes[name][place].item() == pytest.approx((apart[0] - apart[1]) / 2e-6, rel=1e-5, abs=1e-9)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def test_it_trains_as_sgd_does_on_the_learned_loss():
    weights = Weights(ML3Rule(), meta_of(ML3Rule()))
    first, second = network(), network()
    learned = ML3(first.parameters(), weights=weights)
    plain, loss_fn = torch.optim.SGD(second.parameters(), lr=1e-3), as_modules(doubled(weights.meta))
    x = torch.linspace(-2, 2, 11, dtype=torch.float64)[:, None]
    for _ in range(3):
        learned.zero_grad()
        learned.loss(first(x), x.sin()).backward()
        learned.step()
        plain.zero_grad()
        loss_fn(torch.cat([second(x), x.sin()], dim=1)).mean().backward()
        plain.step()
    torch.testing.assert_close(list(first.parameters()), list(second.parameters()))


def test_other_shapes_than_the_loss_was_learned_for_are_refused():
    optimizer = ML3(network().parameters(), weights=Weights(ML3Rule(), meta_of(ML3Rule())))
    with pytest.raises(ValueError, match=r"of shape \[N, 1\]; got shapes \[4, 2\] and \[4, 2\]"):
        optimizer.loss(torch.ones(4, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"\[4, 1\] and \[4\]"):
        optimizer.loss(torch.ones(4, 1), torch.ones(4))


def test_a_loss_is_learned_only_where_something_is_predicted():
    class Bowl(Task):
        name = "bowl"

        def sample(self, count, generator):
            return {"p": torch.ones(count, 2)}, {"at": torch.zeros(count, 2)}

        def loss(self, params, batch):
            return (params["p"] - batch["at"]).square().sum()

    training = dataclasses.replace(ml3.recipe(), tasks=(Bowl(),))
    with pytest.raises(TypeError, match="'bowl' has no predict"):
        MetaTraining(training).iterate()


def test_under_a_cockpit_its_individual_losses_are_read(tmp_path):
    model = network().float()
    optimizer = ML3(model.parameters(), weights=Weights(ML3Rule(), meta_of(ML3Rule())))
    x = torch.linspace(-2, 2, 8)[:, None]
    with Cockpit(model, optimizer, instruments=["loss", "norm_test"], track=1, run=tmp_path / "run") as cockpit:
        for _ in range(2):
            with cockpit.step() as step:
                optimizer.zero_grad()
                losses = optimizer.losses(model(x), x.sin())
                step.losses(losses).backward()
                optimizer.step()
    run = load_run(tmp_path / "run")
    assert run["loss"].values[1] == pytest.approx(losses.mean().item())
    assert run["norm_test"].values.size == 2


@pytest.mark.parametrize(("recipe", "learning_rate", "outer"), [(ml3.recipe, 0.1, 1e-2), (ml3.scaled_recipe, 1, 3e-3)])
def test_a_short_meta_training_lowers_the_error_after_a_step(recipe, learning_rate, outer):
    usual = recipe()
    quick = dataclasses.replace(
        usual,
        rule=dataclasses.replace(usual.rule, learning_rate=learning_rate),
        tasks=(PlainSines(widths=(1, 20, 10, 1), points=20, seed=0),),
        optimizer=functools.partial(torch.optim.Adam, lr=outer),
    )
    training = MetaTraining(quick, seed=0)
    before = error_after_a_step(training)
    for _ in range(40):
        training.iterate()
    assert error_after_a_step(training) < 0.8 * before


def error_after_a_step(training):
    chance = torch.Generator().manual_seed(1)
    losses = trained(
        training.recipe.rule, training.detached(), *training.recipe.tasks, copies=10, steps=1, generator=chance
    )
    return float(losses[:, -1].mean())


def test_the_wave_to_learn_from_is_always_the_same_and_its_networks_are_not():
    params, data = TASK.sample(2, torch.Generator().manual_seed(0))
    others, again = TASK.sample(2, torch.Generator().manual_seed(1))
    torch.testing.assert_close(again, data, rtol=0, atol=0)
    torch.testing.assert_close(data["x"][0], data["x"][1], rtol=0, atol=0)
    torch.testing.assert_close(data["y"], (data["x"] - math.pi).sin())
    assert (others["0.weight"] != params["0.weight"]).all()
    assert params["0.weight"].abs().max() <= math.sqrt(6 / 7)
    assert not params["0.bias"].any()
