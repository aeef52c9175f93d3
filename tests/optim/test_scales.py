"""Loss scales: kept, adapted, refused, and a gradient scaler's."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from twins import SCALES, batches, farthest, network, train, twins

from cockpit.optim import DynamicScale, ScaledAdam, ScaledAdamW, ScaledRMSprop, ScaledSGD


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


def test_copies_step_on_their_own():
    model = network()
    optimizer = copy.deepcopy(ScaledAdam(model.parameters(), scale=4.0))
    (parameter, *_) = optimizer.param_groups[0]["params"]
    before = parameter.detach().clone()
    optimizer.scale(parameter.sum()).backward()
    optimizer.step()
    assert not torch.equal(parameter, before)
    assert torch.equal(next(model.parameters()), before)
