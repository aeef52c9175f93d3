"""Loss-scaled optimizers do what torch's own do on the unscaled loss."""

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler
from twins import PAIRS, SCALES, batches, farthest, network, train, twins

from cockpit.optim import DynamicScale, ScaledAdam, ScaledSGD

STEPS = 200
SCHEDULES = {
    "warm-up and cosine": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, 1, 20), lr_scheduler.CosineAnnealingLR(optimizer, STEPS - 20)],
        [20],
    ),
    "zero for a while": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: float(step % 50 >= 10)),
}


@functools.cache
def plainly_trained(kind, settings, schedule, steps):
    model = network()
    return train(model, kind(model.parameters(), **dict(settings)), batches(steps), schedule=schedule)


def compared(pair, schedule=None, steps=STEPS, after_step=lambda step, optimizer: None, **options):
    """How far a scaled optimizer comes to stand from the plain one."""
    scaled, plain, settings = pair
    model = network()
    optimizer = scaled(model.parameters(), **settings, **options)
    mine = train(model, optimizer, batches(steps), schedule=schedule, after_step=after_step)
    return farthest(mine, plainly_trained(plain, tuple(settings.items()), schedule, steps))


@pytest.mark.parametrize("scale", SCALES)
def test_equal_to_torch_over_two_hundred_steps(pair, scale):
    assert compared(pair, SCHEDULES["warm-up and cosine"], scale=SCALES[scale]) < 1e-12


def test_equal_to_torch_while_the_learning_rate_is_zero(pair):
    assert compared(pair, SCHEDULES["zero for a while"], scale=SCALES["schedule"]) < 1e-12


@pytest.mark.parametrize("name", ["SGD", "momentum", "Nesterov", "dampened"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_learning_rate_itself_is_the_scale_of_sgd(name, schedule):
    assert compared(PAIRS[name], SCHEDULES[schedule]) < 1e-12


def test_the_gradient_of_sgd_is_the_step():
    model = network()
    optimizer = ScaledSGD(model.parameters(), lr=0.3)
    before = [p.detach().clone() for p in model.parameters()]
    ((x, y),) = batches(1)
    optimizer.scale(F.mse_loss(model(x), y)).backward()
    optimizer.step()
    assert all(torch.equal(p, q - p.grad) for p, q in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("name", ["momentum", "RMSprop, momentum", "Adam", "AdamW"])
def test_a_cycled_momentum_is_followed(name):
    pair = PAIRS[name]
    one_cycle = functools.partial(lr_scheduler.OneCycleLR, max_lr=pair[2]["lr"], total_steps=STEPS, cycle_momentum=True)
    assert compared(pair, one_cycle, scale=SCALES["schedule"]) < 1e-12


def test_a_scale_may_be_changed_between_steps(pair):
    def change(step, optimizer):
        optimizer.param_groups[0]["scale"] = 1.5 ** (step % 7)

    assert compared(pair, scale=1.0, after_step=change) < 1e-12


def test_groups_have_scales_and_rates_of_their_own(pair):
    scaled, plain, settings = pair
    mine, theirs = twins()
    data = batches(50)

    def groups(model, *scales):
        halves = list(model[:3].parameters()), list(model[3:].parameters())
        return [
            {"params": half, "lr": lr, **scale}
            for half, lr, scale in zip(halves, (1e-3, 3e-3), scales or ({}, {}), strict=True)
        ]

    scaled_groups = groups(mine, {"scale": 5.0}, {"scale": DynamicScale(100.0, interval=3)})
    first = train(mine, scaled(scaled_groups, **settings), data)
    assert farthest(first, train(theirs, plain(groups(theirs), **settings), data)) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [-9, 5, 16])
def test_powers_of_two_change_no_bit(pair, exponent, dtype):
    scaled, plain, settings = pair
    found = []
    for scale in (1.0, 2.0**exponent):
        model = network(dtype)
        found.append(train(model, scaled(model.parameters(), scale=scale, **settings), batches(50, dtype)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    if plain is torch.optim.RMSprop and not settings.get("centered"):  # the same operations in the same order
        model = network(dtype)
        stock = train(model, plain(model.parameters(), foreach=True, **settings), batches(50, dtype))
        assert all(torch.equal(a, b) for a, b in zip(found[0], stock, strict=True))


@pytest.mark.parametrize("name", ["Adam", "RMSprop"])
def test_powers_of_two_change_no_bit_of_stock_optimizers_whose_eps_is_scaled_too(name):
    plain = PAIRS[name][1]
    found = []
    for scale in (1.0, 2.0**16):
        model = network(torch.float32)
        optimizer = plain(model.parameters(), lr=1e-2, eps=1e-8 * scale, foreach=True)
        for x, y in batches(50, torch.float32):
            optimizer.zero_grad()
            (scale * F.mse_loss(model(x), y)).backward()
            optimizer.step()
        found.append(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("scale", ["number", "one for each parameter"])
def test_gradients_accumulate_over_micro_batches(pair, scale):
    scaled, plain, settings = pair
    mine, theirs = twins()
    optimizers = scaled(mine.parameters(), scale=SCALES[scale], **settings), plain(theirs.parameters(), **settings)
    data = batches(60)
    for first in range(0, 60, 3):
        for model, optimizer in zip((mine, theirs), optimizers, strict=True):
            for x, y in data[first : first + 3]:
                loss = F.mse_loss(model(x), y) / 3
                (optimizer.scale(loss) if model is mine else loss).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert farthest(list(mine.parameters()), list(theirs.parameters())) < 1e-12


def test_a_learning_rate_that_changes_between_backward_and_step_holds_for_the_step():
    def change(step, optimizer):
        optimizer.param_groups[0]["lr"] = 0.05 if step % 2 else 0.01

    mine, theirs = twins()
    data = batches(50)
    first = train(mine, ScaledSGD(mine.parameters(), lr=0.05, momentum=0.9), data, before_step=change)
    second = train(theirs, torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9), data, before_step=change)
    assert farthest(first, second) < 1e-12


def test_unscaled_gradients_are_taken_as_they_are(pair):
    scaled, plain, settings = pair
    mine, theirs = twins()
    optimizers = scaled(mine.parameters(), scale=64.0, **settings), plain(theirs.parameters(), **settings)
    for i, (x, y) in enumerate(batches(50)):
        for model, optimizer in zip((mine, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            (optimizer.scale(loss) if model is mine and i % 3 else loss).backward()  # now scaled, now not
            optimizer.step()
    assert farthest(list(mine.parameters()), list(theirs.parameters())) < 1e-12


def test_gradients_scaled_by_hand_are_declared():
    mine, theirs = twins()
    optimizers = ScaledAdam(mine.parameters(), scale=8.0), torch.optim.Adam(theirs.parameters())
    for x, y in batches(20):
        for model, optimizer in zip((mine, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (F.mse_loss(model(x), y) * (8.0 if model is mine else 1.0)).backward()
            if model is mine:
                optimizer.gradients_are_scaled()
            optimizer.step()
    assert farthest(list(mine.parameters()), list(theirs.parameters())) < 1e-12


@pytest.mark.parametrize("scale", ["number", "one for each parameter"])
def test_clipping_is_told_in_units_of_the_unscaled_gradient(pair, scale):
    scaled, plain, settings = pair
    mine, theirs = twins()
    data = batches(50)
    norms = {True: [], False: []}

    def ours(step, optimizer):
        norms[True].append(optimizer.clip_grad_norm_(0.5))

    def plainly(step, optimizer):
        norms[False].append(nn.utils.clip_grad_norm_(theirs.parameters(), 0.5))

    first = train(mine, scaled(mine.parameters(), scale=SCALES[scale], **settings), data, before_step=ours)
    second = train(theirs, plain(theirs.parameters(), **settings), data, before_step=plainly)
    assert farthest(first, second) < 1e-12
    torch.testing.assert_close(norms[True], norms[False], rtol=1e-10, atol=0)
    assert max(norms[True]) > 0.5


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(PAIRS)),
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4),
    scales=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6),
    holes=st.integers(0, 2**8),
)
def test_any_shapes_any_scales_and_gradients_that_come_and_go(name, shapes, scales, holes):
    scaled, plain, options = PAIRS[name]
    generator = torch.Generator().manual_seed(0)
    mine = [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in mine]
    optimizers = scaled(mine, scale=1.0, **options), plain(theirs, **options)
    for i, scale in enumerate(scales):
        optimizers[0].param_groups[0]["scale"] = scale
        optimizers[0].gradients_are_scaled()
        for j, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            gradient = torch.randn(a.shape, generator=generator, dtype=torch.float64)
            a.grad, b.grad = (None, None) if holes >> (i + j) & 1 else (scale * gradient, gradient)
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_a_closure_is_evaluated_with_gradients():
    model, theirs = twins()
    ((x, y),) = batches(1)
    optimizer, plain = ScaledSGD(model.parameters(), lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        optimizer.scale(loss).backward()
        return loss

    loss = optimizer.step(closure)
    F.mse_loss(theirs(x), y).backward()
    plain.step()
    assert loss.item() == pytest.approx(F.mse_loss(network()(x), y).item())
    assert farthest(list(model.parameters()), list(theirs.parameters())) < 1e-12
