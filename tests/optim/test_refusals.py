"""What loss-scaled optimizers refuse, in words, before a parameter or a state has changed."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from twins import batches, farthest, network, train, twins

from cockpit.optim import DynamicScale, ScaledAdam, ScaledAdamW, ScaledRMSprop, ScaledSGD

KINDS = [ScaledSGD, ScaledRMSprop, ScaledAdam, ScaledAdamW]
NO_SCALES = {
    "two for three": (torch.ones(2), ValueError, "one for each parameter of its group, in their order; got 2 for 3"),
    "a matrix": (torch.ones(3, 3), TypeError, r"got \[1.0, 1.0, 1.0\]"),
    "an array with a zero": (np.array([1.0, 0.0, 1.0]), ValueError, "got 0.0"),
    "a word": ("dynamic", TypeError, "got 'dynamic'"),
    "a class": (DynamicScale, TypeError, "got <class"),
    "names": ({"0.weight": 2.0}, TypeError, "got {'0.weight': 2.0}"),
    "complex": (1j, TypeError, "got 1j"),
    "an integer beyond numbers": (10**400, ValueError, "got inf"),
    "too few from a function": (lambda step: [1.0], ValueError, "got 1 for 3"),
    "nothing from a function": (lambda step: None, TypeError, "got None"),
}


def trained(kind, **options):
    """A small network after two steps, its optimizer, and what both look like."""
    model = network()
    optimizer = kind(model.parameters(), lr=1e-2, **options)
    train(model, optimizer, batches(2))
    return model, optimizer, snapshot(model, optimizer)


def snapshot(model, optimizer):
    return copy.deepcopy([list(model.parameters()), dict(optimizer.state), optimizer.state_dict()["state"]])


def unchanged(model, optimizer, before):
    torch.testing.assert_close(snapshot(model, optimizer)[0], before[0], rtol=0, atol=0)
    torch.testing.assert_close(snapshot(model, optimizer)[2], before[2], rtol=0, atol=0)
    return True


@pytest.mark.parametrize("name", NO_SCALES)
def test_what_is_no_scale_is_refused_with_what_came(name):
    bad, error, message = NO_SCALES[name]
    parameters = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    with pytest.raises(error, match=message):
        ScaledAdam(parameters, scale=bad)
    optimizer = ScaledAdam(parameters[:2], scale=2.0)
    with pytest.raises(error):
        optimizer.add_param_group({"params": [parameters[2]], "scale": [bad] if error is TypeError else [0.0, 1.0]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_tensors_and_arrays_are_scales_too(kind):
    model = network()
    assert set(ScaledSGD(model.parameters(), scale=kind(4.0)).scales().values()) == {4.0}
    each = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert list(ScaledSGD(model.parameters(), scale=kind(each)).scales().values()) == each
    assert list(ScaledSGD(model.parameters(), scale=lambda step: kind(each)).scales().values()) == each


@pytest.mark.parametrize("rate", [0.0, -0.1, 1e-30, math.nan])
def test_a_learning_rate_that_is_no_scale_is_a_learning_rate_all_the_same(rate):
    mine, theirs = twins()
    optimizers = ScaledSGD(mine.parameters(), lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)
    for model, optimizer in zip((mine, theirs), optimizers, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        train(model, optimizer, batches(2))
    torch.testing.assert_close(list(mine.parameters()), list(theirs.parameters()), equal_nan=True)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (3.0, "is a tensor with a real floating-point number; got float"),
        (torch.tensor(3), "got torch.int64"),
        (torch.tensor(3j), "got torch.complex64"),
    ],
)
def test_what_is_no_loss_is_refused(bad, message):
    with pytest.raises(TypeError, match=message):
        ScaledAdam([nn.Parameter(torch.ones(2))]).scale(bad)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e-50), (torch.float16, 1e-6), (torch.float16, 1e5)])
def test_a_scale_that_the_losss_precision_cannot_hold_is_refused(dtype, scale):
    weight = nn.Parameter(torch.ones(2, dtype=dtype))
    with pytest.raises(ValueError, match=f"does not fit into the loss's {dtype}, which holds numbers from"):
        ScaledAdam([weight], scale=scale).scale(weight.sum())


def test_a_scale_that_adapts_stays_within_the_losss_precision():
    weight = nn.Parameter(torch.ones(2, dtype=torch.float16))
    scale = DynamicScale(2.0**15, interval=1)
    optimizer = ScaledSGD([weight], lr=2.0**-4, scale=scale)
    for _ in range(3):
        optimizer.zero_grad()
        optimizer.scale(weight.mean()).backward()
        assert scale.value == 2.0**15
        optimizer.step()
        assert scale.value == 2.0**16
    assert weight.tolist() == [1 - 3 * 2.0**-5] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_sparse_gradient_or_one_of_another_precision_leaves_everything_as_it_was(kind):
    model, optimizer, before = trained(kind)
    last = list(model.parameters())[-1]
    last.grad = last.grad.to_sparse()
    with pytest.raises(RuntimeError, match=r"no rule for sparse gradients, .* of shape \[2\] .* sparse=False"):
        optimizer.step()
    with pytest.raises(RuntimeError, match="no rule for sparse gradients"):
        optimizer.clip_grad_norm_(1.0)
    assert unchanged(model, optimizer, before)
    assert set(optimizer.state) == set(model.parameters())


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="this PyTorch has no gradients of other dtypes")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_of_another_precision_leaves_everything_as_it_was(kind):
    model, optimizer, before = trained(kind)
    last = list(model.parameters())[-1]
    last.grad, last.grad_dtype = None, torch.float32
    last.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match=r"its parameter's dtype, torch.float64; got torch.float32 .* convert it"):
        optimizer.step()
    assert unchanged(model, optimizer, before)


@pytest.mark.parametrize("kind", KINDS)
def test_complex_parameters_are_refused_when_they_join(kind):
    optimizer = kind([nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match=r"no rule for complex parameters: .*view_as_real"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, dtype=torch.complex64))]})
    assert len(optimizer.param_groups) == 1


def test_losses_that_are_scaled_do_not_join_losses_that_are_not():
    model, optimizer, before = trained(ScaledAdam, scale=8.0)
    (x, y), (x2, y2) = batches(2)
    optimizer.zero_grad()
    F.mse_loss(model(x), y).backward()
    scaled = optimizer.scale(F.mse_loss(model(x2), y2))
    with pytest.raises(RuntimeError, match="not scaled, or for an earlier step: call zero_grad"):
        scaled.backward()
    assert unchanged(model, optimizer, before)
    model.zero_grad(set_to_none=False)  # not by the optimizer, and there are gradients still
    optimizer.scale(F.mse_loss(model(x2), y2)).backward()


def test_a_loss_that_was_scaled_and_never_differentiated_does_not_count():
    mine, theirs = twins()
    optimizers = ScaledSGD(mine.parameters(), lr=0.1, scale=64.0), torch.optim.SGD(theirs.parameters(), lr=0.1)
    ((x, y),) = batches(1)
    optimizers[0].scale(F.mse_loss(mine(x), y))
    for model, optimizer in zip((mine, theirs), optimizers, strict=True):
        F.mse_loss(model(x), y).backward()
        optimizer.step()
    assert farthest(list(mine.parameters()), list(theirs.parameters())) < 1e-12


def test_the_same_gradients_may_be_stepped_along_twice(pair):
    scaled, plain, settings = pair
    mine, theirs = twins()
    optimizers = scaled(mine.parameters(), scale=2.0**20, **settings), plain(theirs.parameters(), **settings)
    for x, y in batches(3):
        for model, optimizer in zip((mine, theirs), optimizers, strict=True):
            model.zero_grad()  # not by the optimizer, which is not told
            loss = F.mse_loss(model(x), y)
            (optimizer.scale(loss) if model is mine else loss).backward()
            optimizer.step()
            optimizer.step()
    model.zero_grad()
    for model, optimizer in zip((mine, theirs), optimizers, strict=True):
        model.zero_grad()
        F.mse_loss(model(x), y).backward()  # and not scaled this time
        optimizer.step()
    assert farthest(list(mine.parameters()), list(theirs.parameters())) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_clipping_holds_where_the_squares_of_scaled_gradients_would_overflow(dtype):
    weight = nn.Parameter(torch.zeros(4, dtype=dtype))
    scale = 2.0**12 if dtype == torch.float16 else 2.0**100
    optimizer = ScaledSGD([weight], lr=1.0, scale=scale)
    weight.grad = torch.full_like(weight, 8 * scale)
    optimizer.gradients_are_scaled()
    assert optimizer.clip_grad_norm_(8.0).item() == pytest.approx(16.0)
    assert (weight.grad / scale).tolist() == pytest.approx([4.0] * 4, rel=1e-2)


@pytest.mark.parametrize("bad", [{"max_norm": -1.0}, {"max_norm": math.nan}, {"max_norm": 1.0, "grad_scale": 0.0}])
def test_a_norm_that_nothing_can_be_clipped_at_is_refused(bad):
    model, optimizer, _ = trained(ScaledAdam)
    before = [p.grad.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=r"max_norm is at least 0|a loss scale is"):
        optimizer.clip_grad_norm_(**bad)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


def spoiled_states():
    """States that do not fit the network's optimizer, and what is said of them."""
    parameters = list(network().parameters())
    plain = torch.optim.Adam(parameters)
    yield plain.state_dict(), "this one has none, as that of torch.optim's"
    own = ScaledAdam(parameters, scale=4.0).state_dict()
    yield {**own, "param_groups": [{**own["param_groups"][0], "scale": 0.0}]}, "a loss scale is .* got 0.0"
    yield {**own, "param_groups": [{**own["param_groups"][0], "scale": [1.0]}]}, "got 1 for 6"
    others = [nn.Parameter(torch.ones(3)) for _ in parameters]
    other = ScaledAdam(others)
    other.scale(sum(p.sum() for p in others)).backward()
    other.step()
    yield other.state_dict(), r"of a parameter of shape \[3\], and here is one of shape \[8, 3\]"


@pytest.mark.parametrize("which", range(4))
def test_a_state_that_does_not_fit_is_refused_and_nothing_changes(which):
    state, message = list(spoiled_states())[which]
    model, optimizer, before = trained(ScaledAdam, scale=4.0)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert unchanged(model, optimizer, before)
    assert set(optimizer.scales().values()) == {4.0}
