"""LearnedAdam: its formula, what it takes tensors for, and the weights that it comes with."""

import copy
import fnmatch
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cockpit.optim.learned import LearnedAdam, LearnedAdamRule, Weights
from cockpit.optim.learned.kinds import KINDS, kinds_in, kinds_of
from cockpit.optim.learned.learned_adam import SHIPPED
from cockpit.optim.learned.rule import Signals

KNOTS = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
BETAS = (0.9, 0.99, 0.99)


def network():
    torch.manual_seed(0)
    layers = [nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)]
    return nn.Sequential(*layers).double()


EXPECTED = {
    **{"0.weight": "input", "0.bias": "bias", "1.weight": "norm", "1.bias": "bias"},
    **{"3.weight": "hidden", "3.bias": "bias", "5.weight": "output", "5.bias": "bias"},
}


def random_weights(seed=0):
    """Meta-parameters as they may be after learning, in double precision: nothing is one or zero."""
    generator = torch.Generator().manual_seed(seed)
    rule = LearnedAdamRule()
    meta = rule.meta_parameters(generator)
    noise = {n: 0.3 * torch.randn(t.shape, generator=generator, dtype=torch.float64) for n, t in meta.items()}
    return Weights(rule, {n: t.double() + noise[n] for n, t in meta.items()})


def gradients(model, count):
    generator = np.random.default_rng(1)
    return [{n: generator.normal(size=p.shape) for n, p in model.named_parameters()} for _ in range(count)]


def by_loops(meta, kinds, params, history, total):
    """Parameters after training, number by number."""
    meta = {name: tensor.numpy() for name, tensor in meta.items()}
    weights = sum(p.ndim > 1 for p in params.values())
    found = {}
    for name, start in params.items():
        k = KINDS.index(kinds[name])
        p, averages = start.copy(), [np.zeros_like(start) for _ in BETAS]
        for t, gradient in enumerate(history):
            g, tau = gradient[name], min(t / total, 1.0)
            size = math.exp(meta["log_step"][k] + np.interp(tau, KNOTS, meta["schedule"][k]))
            size *= (weights / 3) ** meta["depth"][k] * (total / 200) ** meta["length"][k]
            if start.ndim > 1:
                size *= (start[0].size / 64) ** meta["width"][k]
            c = (1 - tau) * meta["mix"][k, 0] + tau * meta["mix"][k, 1]
            for index in np.ndindex(start.shape):
                seen = (g[index], g[index], g[index] ** 2)
                corrected = []
                for average, beta, value in zip(averages, BETAS, seen, strict=True):
                    average[index] = beta * average[index] + (1 - beta) * value
                    corrected.append(average[index] / (1 - beta ** (t + 1)))
                fast, slow, square = corrected
                mixed = c[0] * g[index] + c[1] * fast + c[2] * slow
                p[index] -= size * mixed / math.sqrt(square + 1e-16)
        found[name] = p
    return found


def train(optimizer, model, history):
    for step in history:
        for name, p in model.named_parameters():
            p.grad = torch.as_tensor(step[name], dtype=p.dtype)
        optimizer.step()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("steps", [1, 9])
def test_steps_are_those_of_the_formula_number_by_number(steps):
    model, learned = network(), random_weights()
    start = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    history = gradients(model, steps)
    found = train(LearnedAdam(model.named_parameters(), learned, total_steps=7), model, history)
    for name, expected in by_loops(learned.meta, EXPECTED, start, history, 7).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-12)


def test_layers_without_gradients_leave_the_steps_of_the_others_as_they_are():
    learned, history = random_weights(), gradients(network(), 3)
    found = []
    for frozen in (True, False):
        model = network()
        optimizer = LearnedAdam(model.named_parameters(), learned, total_steps=7)
        if frozen:
            model[0].requires_grad_(False)
        for step in history:
            for name, p in model.named_parameters():
                p.grad = torch.as_tensor(step[name]) if p.requires_grad else None
            optimizer.step()
        found.append([p.detach().clone() for p in model[3:].parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*found, strict=True))


def test_before_anything_is_learned_it_is_adam_with_warm_up_and_cosine():
    rule = LearnedAdamRule()
    meta = rule.meta_parameters(torch.Generator())
    params = {"0.weight": torch.ones(2, 64), "1.weight": torch.ones(2, 64), "2.weight": torch.ones(2, 64)}
    for step, part in ((0, 0.1), (10, (1 + math.cos(math.pi * 0.05)) / 2), (100, 0.5), (200, 0.02)):
        factors = rule.coefficients(meta, params, Signals(*torch.tensor([step, 200.0, 0.0, 0.0])))
        torch.testing.assert_close(factors, torch.tensor([0.0, 0.01 * part, 0.0]).expand(3, 3))


def test_kinds_are_found_from_names_shapes_and_order():
    model = network()
    assert kinds_of({name: p.shape for name, p in model.named_parameters()}) == EXPECTED
    named = LearnedAdam(model.named_parameters(), total_steps=3).param_groups[0]["kinds"]
    assert named == list(EXPECTED.values())
    unnamed = LearnedAdam(model.parameters(), total_steps=3).param_groups[0]["kinds"]
    assert unnamed == ["bias" if kind == "norm" else kind for kind in EXPECTED.values()]
    assert kinds_of({"weight": (3, 2), "bias": (3,)}) == {"weight": "output", "bias": "bias"}
    assert kinds_of({"scale": ()}) == {"scale": "bias"}


def test_a_model_tells_its_tables_of_embeddings():
    model = nn.ModuleDict({"words": nn.Embedding(9, 4), "places": nn.Embedding(3, 4), "last": nn.Linear(4, 9)})
    assert list(kinds_in(model).values()) == ["input", "input", "output", "bias"]
    found = LearnedAdam(model.parameters(), total_steps=3, model=model)
    assert found.param_groups[0]["kinds"] == ["input", "input", "output", "bias"]
    assert LearnedAdam(model.parameters(), total_steps=3).param_groups[0]["kinds"][1] == "hidden"


def test_kinds_are_found_in_networks_whose_parameters_have_the_same_names():
    parts = [nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2)]
    optimizer = LearnedAdam([{"params": part.named_parameters()} for part in parts], total_steps=3)
    found = [group["kinds"] for group in optimizer.param_groups]
    assert found == [["input", "bias", "norm", "bias"], ["output", "bias", "norm", "bias"]]


def test_groups_may_say_their_kinds_and_later_ones_are_inside():
    model, head = network(), nn.Linear(2, 2).double()
    groups = [{"params": model[:5].parameters()}, {"params": model[5].parameters(), "kinds": ["hidden", "norm"]}]
    optimizer = LearnedAdam(groups, total_steps=3)
    assert optimizer.param_groups[1]["kinds"] == ["hidden", "norm"]
    optimizer.add_param_group({"params": head.parameters()})
    optimizer.step()
    assert optimizer.param_groups[2]["kinds"] == ["hidden", "bias"]
    for kinds in (["hidden"], ["hidden", "nose"]):
        with pytest.raises(ValueError, match="one kind for each of its 2 parameters, of input, hidden"):
            optimizer.add_param_group({"params": nn.Linear(2, 2).parameters(), "kinds": kinds})
    assert len(optimizer.param_groups) == 3


def test_a_state_dict_goes_on_bit_for_bit_with_its_kinds():
    model, history = network(), gradients(network(), 6)
    optimizer = LearnedAdam(model.named_parameters(), total_steps=6)
    train(optimizer, model, history[:3])
    other = copy.deepcopy(model)
    resumed = LearnedAdam(other.parameters(), total_steps=6)  # without names gains would be taken for biases
    resumed.load_state_dict(optimizer.state_dict())
    first, second = train(optimizer, model, history[3:]), train(resumed, other, history[3:])
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert resumed.param_groups[0]["kinds"] == list(EXPECTED.values())


def test_training_may_go_on_after_the_last_step_with_small_steps():
    model = network()
    history = gradients(model, 1) * 12
    optimizer = LearnedAdam(model.named_parameters(), total_steps=5)
    places = [train(optimizer, model, [step])["0.weight"] for step in history]
    sizes = [float((b - a).norm()) for a, b in itertools.pairwise(places)]
    assert sizes[-1] == pytest.approx(sizes[5])  # constant gradients have the same direction throughout
    assert 0 < sizes[-1] < 0.2 * max(sizes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_are_trained_with_averages_in_single_precision(dtype):
    model = network().to(dtype)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = LearnedAdam(model.named_parameters(), random_weights(), total_steps=2)
    train(optimizer, model, gradients(model, 2))
    assert all(p.dtype == dtype for p in model.parameters())
    for p, q, kind in zip(model.parameters(), before, EXPECTED.values(), strict=True):
        assert kind == "norm" or not torch.equal(p, q)  # a gain of 1 may round small steps away
    assert {t.dtype for state in optimizer.state.values() for t in state.values()} == {torch.float32}


def test_what_cannot_be_trained_is_refused_and_left_as_it_is():
    with pytest.raises(ValueError, match="LearnedAdam has no rule for complex parameters"):
        LearnedAdam([nn.Parameter(torch.ones(2, dtype=torch.complex64))], total_steps=3)
    for total in (0, -1, math.nan):
        with pytest.raises(ValueError, match="how many steps training will take, at least 1; got"):
            LearnedAdam(network().parameters(), total_steps=total)
    table = nn.Embedding(4, 2, sparse=True)
    before = table.weight.detach().clone()
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="LearnedAdam has no rule for sparse gradients"):
        LearnedAdam(table.parameters(), total_steps=3).step()
    assert torch.equal(table.weight, before)


def test_the_weights_come_with_the_package_as_a_small_text():
    learned = Weights.load(SHIPPED, LearnedAdamRule)
    assert learned.rule == LearnedAdamRule()
    assert learned.provenance["recipe"] == "learned_adam"
    assert SHIPPED.stat().st_size < 100_000
    assert LearnedAdam(network().parameters(), total_steps=3).weights.fingerprint() == learned.fingerprint()
    listed = re.search(r'^"cockpit.optim.learned" = \["(.*)"\]$', pyproject(), re.M)
    assert listed is not None
    assert fnmatch.fnmatch(SHIPPED.name, listed[1])


def pyproject():
    return (Path(__file__).parents[3] / "pyproject.toml").read_text()


def test_it_trains_a_network_with_nothing_to_tune():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 10, generator=generator)
    y = (x[:, :3].sum(1) > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = LearnedAdam(model.named_parameters(), total_steps=60)
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1
