"""What holds for every learned rule."""

import copy
import pickle

import pytest
import torch
from rules import (
    OPTIMIZERS,
    TASK,
    MomentumRule,
    by_brute_force,
    chance,
    doubled,
    inner_loss,
    network,
    picked,
    problems,
    weights,
)

from cockpit.optim.learned import Unrolled, Weights, trained
from cockpit.optim.learned.cohort import Cohort, Life
from cockpit.optim.learned.rule import Signals
from cockpit.optim.learned.unroll import unroll

STEPS, HORIZON = 4, 12


@pytest.fixture(params=OPTIMIZERS)
def kind(request):
    return OPTIMIZERS[request.param]


@pytest.fixture
def rule(kind):
    return kind[0]


def cohort(rule, copies):
    found = Cohort(rule, TASK, copies=copies, horizon=HORIZON, length=STEPS, sides=1, generator=chance())
    params, found.data = problems(copies)
    found.lives = [Life(params, torch.func.vmap(rule.init)(params) if rule.init(picked(params, 0)) else {})]
    found.step = found.step.double()
    return found


def largest(a, b):
    return max(float((a[name] - b[name]).detach().abs().max()) for name in b)


def test_unrolled_gradients_are_those_of_plain_autograd(rule):
    meta = doubled(rule.meta_parameters(chance()))
    found = Unrolled(STEPS).estimate(cohort(rule, 3), meta, torch.mean, chance())
    params, data = problems(3)
    for number in range(3):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in meta.items()}
        losses, _ = by_brute_force(rule, leaves, picked(params, number), picked(data, number), HORIZON, STEPS)
        loss = torch.stack(losses).mean()
        gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        assert float((loss - found.losses[number]).detach().abs()) < 1e-12
        assert largest(picked(found.gradients, number), gradients) < 1e-12
        assert max(float(g.abs().max()) for g in gradients.values()) > 1e-6


def test_stacked_problems_train_as_each_does_alone(rule):
    meta = doubled(rule.meta_parameters(chance()))
    together = cohort(rule, 3)
    life, step, batches = together.lives[0], together.step, together.batches(STEPS, chance())

    def training(life, step, batches):
        return unroll(rule, TASK, HORIZON, meta, life, step, batches)

    losses, ends = torch.func.vmap(training)(life, step, batches)
    for number in range(3):
        alone = Life(picked(life.params, number), {owner: picked(s, number) for owner, s in life.state.items()})
        its_losses, end = training(alone, step[number], [picked(batch, number) for batch in batches])
        assert float((losses[number] - its_losses).abs().max()) < 1e-12
        assert largest(picked(ends.params, number), end.params) < 1e-12


def test_a_training_goes_on_from_one_truncation_to_the_next(rule):
    meta = doubled(rule.meta_parameters(chance()))
    halves, whole = cohort(rule, 2), cohort(rule, 2)
    for _ in range(2):
        Unrolled(STEPS // 2).estimate(halves, meta, torch.mean, chance())
    Unrolled(STEPS).estimate(whole, meta, torch.mean, chance())
    assert largest(halves.lives[0].params, whole.lives[0].params) < 1e-12


def test_in_place_is_as_out_of_place(rule):
    params = picked(problems(1)[0], 0)
    meta = doubled(rule.meta_parameters(chance()))
    gradients = {name: torch.randn(p.shape, generator=chance(5), dtype=p.dtype) for name, p in params.items()}
    signals = Signals(*map(torch.tensor, (1.0, 12.0, 0.5, 0.7)))
    new, state = rule.update(meta, gradients, params, rule.init(params), signals)
    own = {name: p.clone() for name, p in params.items()}
    its_state = rule.update_(meta, gradients, own, rule.init(params), signals)
    assert largest(own, new) < 1e-12
    assert all(torch.equal(its_state[owner][name], t) for owner, s in state.items() for name, t in s.items())
    assert largest(new, params) > 0


def train(optimizer, model, data, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = inner_loss(optimizer.rule, optimizer.weights.meta, dict(model.named_parameters()), data)
        loss.backward()
        optimizer.tell(loss=loss, valid_loss=loss)
        optimizer.step()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_the_optimizer_does_what_was_learned(kind):
    rule, optimizer_type = kind
    learned, model, data = weights(rule), network(), picked(problems(1)[1], 0)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = optimizer_type(model.named_parameters(), learned, horizon=HORIZON)
    optimizer.start()
    found = train(optimizer, model, data, STEPS)
    _, expected = by_brute_force(rule, learned.meta, start, data, HORIZON, STEPS)
    assert largest(found, expected) < 1e-12


def test_a_state_dict_goes_on_bit_for_bit(kind, tmp_path):
    rule, optimizer_type = kind
    learned, data = weights(rule), picked(problems(1)[1], 0)
    model = network()
    optimizer = optimizer_type(model.parameters(), learned, horizon=HORIZON)
    train(optimizer, model, data, STEPS)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "saved.pt")
    saved = torch.load(tmp_path / "saved.pt", weights_only=True)
    other = network()
    other.load_state_dict(saved["model"])
    resumed = optimizer_type(other.parameters(), learned, horizon=HORIZON)
    resumed.load_state_dict(saved["optimizer"])
    first, second = train(optimizer, model, data, 3), train(resumed, other, data, 3)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copied_optimizer_goes_on_alone(kind, copied):
    rule, optimizer_type = kind
    model, data = network(), picked(problems(1)[1], 0)
    optimizer = optimizer_type(model.parameters(), weights(rule), horizon=HORIZON)
    train(optimizer, model, data, 2)
    other, twin = copied((model, optimizer))
    first, second = train(optimizer, model, data, 2), train(twin, other, data, 2)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_parameter_may_get_its_first_gradient_late(kind):
    rule, optimizer_type = kind
    model = network()
    optimizer = optimizer_type(model.parameters(), weights(rule), horizon=HORIZON)
    for number in range(3):
        optimizer.zero_grad()
        for p in list(model.parameters())[: 2 if number < 2 else 4]:
            p.grad = torch.ones_like(p)
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.tell(loss=1.0, valid_loss=1.0)
        optimizer.step()
        moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)]
        assert moved == [True, True, number == 2, number == 2]


def test_complex_parameters_are_refused_and_sparse_gradients_move_nothing(kind):
    rule, optimizer_type = kind
    learned, model = weights(rule), network()
    odd = [torch.nn.Parameter(p.detach().to(torch.complex128)) for p in model.parameters()]
    with pytest.raises(ValueError, match=f"{rule.name} has no rule for complex parameters"):
        optimizer_type(odd, learned, horizon=HORIZON)
    optimizer = optimizer_type(model.parameters(), learned, horizon=HORIZON)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    list(model.parameters())[-1].grad = torch.ones(1, dtype=torch.float64).to_sparse()
    optimizer.tell(loss=1.0, valid_loss=1.0)
    with pytest.raises(RuntimeError, match="no rule for sparse gradients"):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert not optimizer.state
    assert optimizer.steps == 0


@pytest.mark.parametrize("name", ["weights.pt", "weights.json"])
def test_weights_survive_their_file(kind, name, tmp_path):
    rule, optimizer_type = kind
    learned = weights(rule)
    learned.save(tmp_path / "deep" / name)
    found = Weights.load(tmp_path / "deep" / name, optimizer_type.rule_type)
    assert found.rule == rule
    assert found.provenance == {"recipe": "by hand"}
    assert all(torch.equal(found.meta[part], tensor) for part, tensor in learned.meta.items())
    assert found.fingerprint() == learned.fingerprint()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]
    optimizer_type(network().parameters(), tmp_path / "deep" / name, horizon=3)


def test_trials_return_the_losses_of_whole_trainings(rule):
    meta = rule.meta_parameters(chance())
    losses = trained(rule, meta, TASK, copies=3, steps=5, generator=chance(4))
    assert losses.shape == (3, 6)
    params, data = TASK.sample(3, chance(4))
    for number in range(3):
        start = rule.start(meta, picked(params, number))
        expected, _ = by_brute_force(rule, meta, picked(params, number), picked(data, number), 5, 5)
        whole = torch.stack([TASK.loss(start, picked(data, number)), *expected]).detach()
        torch.testing.assert_close(losses[number], whole, rtol=1e-4, atol=1e-5)


def test_without_second_derivatives_gradients_are_taken_as_given():
    rule = MomentumRule()
    meta = doubled(rule.meta_parameters(chance()))
    found = Unrolled(1, through_gradients=False).estimate(cohort(rule, 1), meta, torch.mean, chance())
    exact = Unrolled(1).estimate(cohort(rule, 1), meta, torch.mean, chance())
    assert largest(found.gradients, exact.gradients) < 1e-12  # one step has no earlier ones
    two = [
        Unrolled(2, through_gradients=through).estimate(cohort(rule, 1), meta, torch.mean, chance()).gradients
        for through in (True, False)
    ]
    assert largest(*two) > 1e-6
