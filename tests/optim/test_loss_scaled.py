"""Loss-scaled optimizers do what torch's own do on the unscaled loss."""

import copy
import functools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler
from twins import batches, farthest, network, train, twins

from cockpit.optim import DynamicScale, ScaledAdam, ScaledAdamW, ScaledRMSprop, ScaledSGD

STEPS = 200
PAIRS = {
    "SGD": (ScaledSGD, torch.optim.SGD, {"lr": 0.05}),
    "momentum": (ScaledSGD, torch.optim.SGD, {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-2}),
    "dampened": (ScaledSGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.8, "dampening": 0.3}),
    "Nesterov": (ScaledSGD, torch.optim.SGD, {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    "RMSprop": (ScaledRMSprop, torch.optim.RMSprop, {"lr": 1e-3, "weight_decay": 1e-2}),
    "RMSprop, momentum": (ScaledRMSprop, torch.optim.RMSprop, {"lr": 1e-3, "momentum": 0.9, "alpha": 0.9}),
    "RMSprop, centered": (
        ScaledRMSprop,
        torch.optim.RMSprop,
        {"lr": 1e-3, "centered": True, "momentum": 0.5, "eps": 1e-4},
    ),
    "Adam": (ScaledAdam, torch.optim.Adam, {"lr": 1e-2}),
    "Adam, decay": (
        ScaledAdam,
        torch.optim.Adam,
        {"lr": 1e-2, "weight_decay": 1e-2, "betas": (0.8, 0.95), "eps": 1e-3},
    ),
    "AMSGrad": (ScaledAdam, torch.optim.Adam, {"lr": 1e-2, "amsgrad": True, "weight_decay": 1e-3}),
    "AdamW": (ScaledAdamW, torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1}),
    "AdamW, AMSGrad": (ScaledAdamW, torch.optim.AdamW, {"lr": 1e-2, "amsgrad": True}),
}
SCALES = {
    "number": 0.37,
    "power of two": 2.0**16,
    "schedule": lambda step: 10.0 + 7 * math.sin(step),
    "one for each parameter": [3.0, 0.1, 2.0**10, 1.0, 7.5, 0.011],
}
SCHEDULES = {
    "warm-up and cosine": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, 1, 20), lr_scheduler.CosineAnnealingLR(optimizer, STEPS - 20)],
        [20],
    ),
    "zero for a while": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: float(step % 50 >= 10)),
}


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


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


def test_a_scale_that_changes_amid_accumulation_is_refused():
    model = network()
    optimizer = ScaledSGD(model.parameters(), lr=0.1)
    (x, y), (x2, y2) = batches(2)
    optimizer.scale(F.mse_loss(model(x), y)).backward()
    optimizer.param_groups[0]["lr"] = 0.2
    with pytest.raises(RuntimeError, match="accumulated at another loss scale"):
        optimizer.scale(F.mse_loss(model(x2), y2))
    optimizer.zero_grad()
    optimizer.scale(F.mse_loss(model(x2), y2)).backward()


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


@pytest.mark.parametrize("scale", [*SCALES, "dynamic"])
def test_a_state_dict_makes_a_round_trip(pair, scale, tmp_path):
    scaled, _, settings = pair

    def optimizer_of(model):
        own = DynamicScale(2.0, interval=4) if scale == "dynamic" else SCALES[scale]
        return scaled(model.parameters(), scale=own, **settings)

    whole, parted = twins()
    data = batches(40)
    optimizer, before = optimizer_of(whole), optimizer_of(parted)
    train(whole, optimizer, data)
    train(parted, before, data[:20])
    torch.save({"optimizer": before.state_dict(), "model": parted.state_dict()}, tmp_path / "checkpoint.pt")
    resumed = network()
    after = optimizer_of(resumed)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    resumed.load_state_dict(checkpoint["model"])
    after.load_state_dict(checkpoint["optimizer"])
    train(resumed, after, data[20:])
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))
    assert after.scales() == dict(zip(resumed.parameters(), optimizer.scales().values(), strict=True))


def test_a_state_whose_scale_adapts_wants_an_optimizer_whose_scale_adapts():
    model = network()
    state = ScaledAdam(model.parameters(), scale=DynamicScale()).state_dict()
    fixed = ScaledAdam(model.parameters(), scale=4.0)
    with pytest.raises(ValueError, match="changes by itself"):
        fixed.load_state_dict(state)
    assert set(fixed.scales().values()) == {4.0}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_gradient_scaler_is_served_without_unscaling(pair, dtype):
    scaled, plain, settings = pair
    trained, skipped, taken = [], [], []
    for kind in (scaled, plain):
        model = network(torch.float32)
        optimizer = kind(model.parameters(), **{**settings, "lr": settings["lr"] / 16})
        scaler = torch.amp.GradScaler(
            "cpu", init_scale=2.0**127 if dtype == torch.bfloat16 else 2.0**24, growth_interval=15
        )
        skips = 0
        for i, (x, y) in enumerate(batches(60, torch.float32)):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=dtype):
                output = model(x)
            scaler.scale(16 * F.mse_loss(output.float(), y)).backward()
            if i % 2:
                scaler.unscale_(optimizer)
            before = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            skips += scaler.get_scale() < before
        trained.append([p.detach() for p in model.parameters()])
        skipped.append(skips)
        taken.append(optimizer.param_groups[0].get("steps", 60 - skips))
    assert skipped[0] == skipped[1] > 0
    assert taken[0] == 60 - skipped[0]
    assert farthest(*trained) < 2e-4  # float32 weights, at half precision's gradients


def test_a_skipped_step_leaves_everything_as_it_was(pair):
    scaled, _, settings = pair
    model = network()
    kept = DynamicScale(8.0)
    optimizer = scaled(model.parameters(), scale=kept, **settings)
    data = batches(4)
    train(model, optimizer, data[:3])
    parameters, state = copy.deepcopy(list(model.parameters())), copy.deepcopy(optimizer.state_dict()["state"])
    (x, y) = data[3]
    optimizer.zero_grad()
    optimizer.scale(F.mse_loss(model(x), y)).backward()
    next(model.parameters()).grad[0, 0] = math.inf
    optimizer.step()
    assert kept.value == 4.0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), parameters, strict=True))
    torch.testing.assert_close(optimizer.state_dict()["state"], state, rtol=0, atol=0)


def test_a_dynamic_scale_grows_after_calm_and_backs_off_after_overflow():
    scale = DynamicScale(4.0, growth=3.0, backoff=0.25, interval=2)
    seen = []
    for overflowed in (False, False, False, True, False, False):
        scale.update(overflowed)
        seen.append(scale.value)
    assert seen == [4, 12, 12, 3, 3, 9]


def test_groups_adapt_their_scales_by_themselves():
    model = network()
    scales = DynamicScale(8.0, interval=100), DynamicScale(8.0, interval=100)
    groups = [{"params": m.parameters(), "scale": s} for m, s in zip((model[:3], model[3:]), scales, strict=True)]
    optimizer = ScaledSGD(groups, lr=0.1)
    ((x, y),) = batches(1)
    optimizer.scale(F.mse_loss(model(x), y)).backward()
    model[4].bias.grad[0] = math.nan
    optimizer.step()
    assert [s.value for s in scales] == [8.0, 4.0]


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


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan, [1.0, 0.0], [1.0], lambda step: 0.0])
@pytest.mark.parametrize("kind", [ScaledSGD, ScaledRMSprop, ScaledAdam, ScaledAdamW])
def test_a_scale_that_is_none_is_refused_and_nothing_moves(kind, bad):
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    with pytest.raises(ValueError, match="loss scale"):
        kind(parameters, lr=0.1, scale=bad)
    optimizer = kind(parameters, lr=0.1, scale=2.0)
    optimizer.param_groups[0]["scale"] = bad
    with pytest.raises(ValueError, match="loss scale"):
        optimizer.scale(parameters[0].sum())
    assert all(torch.equal(p, torch.ones_like(p)) for p in parameters)


def test_a_scale_too_large_for_the_losss_precision_is_refused():
    weight = nn.Parameter(torch.ones(2, dtype=torch.float16))
    with pytest.raises(ValueError, match=r"does not fit into the loss's torch\.float16"):
        ScaledAdam([weight], scale=2.0**16).scale(weight.sum())


def test_a_loss_with_several_elements_is_refused():
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="has one element"):
        ScaledAdam([weight]).scale(weight * 2)


def test_sparse_gradients_and_complex_parameters_are_refused_and_nothing_moves():
    table, other = nn.Embedding(4, 2, sparse=True), nn.Parameter(torch.ones(2))
    before = table.weight.detach().clone()
    optimizer = ScaledAdam([other, *table.parameters()])
    optimizer.scale(table(torch.tensor([1, 2])).sum() + other.sum()).backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert torch.equal(table.weight, before)
    assert torch.equal(other, torch.ones(2))
    with pytest.raises(ValueError, match="complex"):
        ScaledSGD([nn.Parameter(torch.ones(2, dtype=torch.complex64))])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (ScaledSGD, {"lr": -1.0}),
        (ScaledSGD, {"nesterov": True}),
        (ScaledAdam, {"betas": (1.0, 0.9)}),
        (ScaledAdam, {"eps": math.nan}),
        (ScaledRMSprop, {"alpha": -0.1}),
        (DynamicScale, {"backoff": 1.5}),
        (DynamicScale, {"interval": 0}),
    ],
)
def test_options_out_of_range_are_refused(kind, options):
    with pytest.raises(ValueError, match=r"is at least|are at least|above zero|dynamic scale"):
        kind([nn.Parameter(torch.ones(1))], **options) if kind is not DynamicScale else kind(**options)


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


def test_copies_step_on_their_own():
    model = network()
    optimizer = copy.deepcopy(ScaledAdam(model.parameters(), scale=4.0))
    (parameter, *_) = optimizer.param_groups[0]["params"]
    before = parameter.detach().clone()
    optimizer.scale(parameter.sum()).backward()
    optimizer.step()
    assert not torch.equal(parameter, before)
    assert torch.equal(next(model.parameters()), before)
