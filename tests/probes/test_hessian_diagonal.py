"""The Hessian's diagonal blocks against the whole Hessian in float64."""

import pytest
import torch
import torch.nn.functional as F
from hessians import LOSSES, NETWORKS, SCALED, N, Y, blocks, full_hessian, looked_at, network, trained

from cockpit.capture.unavailable import Unavailable
from cockpit.probes.curvature import pooled
from cockpit.probes.hessian_diagonal import exact_diagonal, hessian_diagonal, hutchinson


def found(model, take, loss):
    """What ``take`` makes of the Hessian that a step shows."""
    names, tensors = trained(model)
    (result,) = looked_at(model, lambda graph: take(graph.hessian(tensors), names), lambda: loss().backward())
    return result


def agrees(curvature, model, truth):
    for name, block in blocks(model, truth).items():
        assert curvature.by_layer()[name] == pytest.approx(block.trace().item(), rel=1e-9, abs=1e-12), name
    assert curvature.total() == pytest.approx(truth.trace().item(), rel=1e-9)
    diagonal = torch.cat([values.reshape(-1) for values in curvature.diagonal])
    torch.testing.assert_close(diagonal, truth.diagonal())


@pytest.mark.parametrize("network_name", NETWORKS)
def test_the_exact_diagonal_is_that_of_the_whole_hessian(network_name):
    model, x = network(network_name)
    truth = full_hessian(model, lambda m: LOSSES["cross-entropy"](m(x)))
    curvature = found(model, exact_diagonal, lambda: LOSSES["cross-entropy"](model(x)))
    assert curvature.exact
    assert curvature.way == "products"
    agrees(curvature, model, truth)


@pytest.mark.parametrize("loss_name", LOSSES)
def test_it_is_exact_under_every_loss(loss_name):
    model, x = network("tanh")
    truth = full_hessian(model, lambda m: LOSSES[loss_name](m(x)))
    agrees(found(model, exact_diagonal, lambda: LOSSES[loss_name](model(x))), model, truth)


@pytest.mark.parametrize("name", SCALED)
def test_it_is_that_of_the_mean_loss_whatever_it_was_multiplied_with(name):
    model, x = network("tanh")
    truth = full_hessian(model, lambda m: F.cross_entropy(m(x), Y))
    agrees(found(model, exact_diagonal, lambda: SCALED[name](model(x))), model, truth)


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_how_many_products_are_taken_at_once_makes_no_difference(at_once):
    model, x = network("convolutions")
    truth = full_hessian(model, lambda m: F.cross_entropy(m(x), Y))
    take = lambda hessian, names: exact_diagonal(hessian, names, at_once)  # noqa: E731
    agrees(found(model, take, lambda: F.cross_entropy(model(x), Y)), model, truth)


class Cube(torch.autograd.Function):
    """Can be differentiated twice, but asks for a number on the way, which no batch of vectors has."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        return Slope.apply(ctx.saved_tensors[0], gradient)


class Slope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gradient):
        ctx.save_for_backward(x, gradient)
        return 3 * x**2 * gradient

    @staticmethod
    def backward(ctx, vector):
        x, gradient = ctx.saved_tensors
        return 6 * x * gradient * vector if float(vector.detach().norm()) else None, 3 * x**2 * vector


def test_what_cannot_be_batched_is_taken_one_at_a_time():
    model, x = network("tanh")

    def loss(m, cube):
        return F.cross_entropy(m[2](cube(m[0](x))), Y)

    with torch.no_grad():
        model[0].bias += 1
    truth = full_hessian(model, lambda m: loss(m, lambda value: value**3))
    agrees(found(model, exact_diagonal, lambda: loss(model, Cube.apply)), model, truth)


@pytest.mark.parametrize("network_name", ["tanh", "convolutions", "called twice"])
def test_random_signs_tell_every_trace_within_their_standard_error(network_name):
    model, x = network(network_name)
    truth = full_hessian(model, lambda m: F.cross_entropy(m(x), Y))
    generator = torch.Generator().manual_seed(0)

    def take(hessian, names):
        return hutchinson(hessian, names, generator, draws=2000, diagonal=True)

    curvature = found(model, take, lambda: F.cross_entropy(model(x), Y))
    assert not curvature.exact
    errors = curvature.errors_by_layer()
    for name, block in blocks(model, truth).items():
        assert abs(curvature.by_layer()[name] - block.trace().item()) <= 3.5 * errors[name] + 1e-12, name
    assert abs(curvature.total() - truth.trace().item()) <= 3 * curvature.total_error()
    diagonal = torch.cat([values.reshape(-1) for values in curvature.diagonal])
    off_diagonal = (truth - truth.diagonal().diag()).square().sum(1)
    z = (diagonal - truth.diagonal()) / (off_diagonal / 2000).sqrt().clamp_min(1e-12)
    assert float(z.abs().max()) < 4.5


def test_the_standard_error_is_the_spread_over_many_seeds():
    model, x = network("tanh")

    def take(hessian, names):
        return [hutchinson(hessian, names, torch.Generator().manual_seed(seed), draws=4) for seed in range(300)]

    many = found(model, take, lambda: F.cross_entropy(model(x), Y))
    spread = torch.tensor([c.total() for c in many]).std().item()
    claimed = torch.tensor([c.total_error() ** 2 for c in many]).mean().sqrt().item()
    assert claimed == pytest.approx(spread, rel=0.2)


def test_the_same_generator_draws_the_same_signs():
    model, x = network("tanh")

    def take(hessian, names):
        return [hutchinson(hessian, names, torch.Generator().manual_seed(seed)).total() for seed in (7, 7, 8)]

    first, again, other = found(model, take, lambda: F.cross_entropy(model(x), Y))
    assert first == again != other


def test_parts_of_a_batch_pool_to_the_whole():
    model, x = network("tanh")
    names, tensors = trained(model)

    def take(graph):
        hessian, generator = graph.hessian(tensors), torch.Generator().manual_seed(3)
        return exact_diagonal(hessian, names), hutchinson(hessian, names, generator, 2, diagonal=True)

    def parts():
        for rows in (slice(0, 2), slice(2, N)):
            (F.cross_entropy(model(x[rows]), Y[rows]) / 2).backward()

    (whole,) = looked_at(model, take, lambda: F.cross_entropy(model(x), Y).backward())
    by_parts = looked_at(model, take, parts)
    for one, several in zip(whole, zip(*by_parts, strict=True), strict=True):
        together = pooled(several, [2 / N, (N - 2) / N])
        torch.testing.assert_close(together.draws, one.draws)
        torch.testing.assert_close(together.diagonal, one.diagonal)


def test_what_is_too_large_to_be_exact_is_labelled_as_estimated():
    model, x = network("tanh")
    take = lambda hessian, names: (  # noqa: E731
        hessian_diagonal(hessian, names, torch.Generator(), limit=39),
        hessian_diagonal(hessian, names, torch.Generator(), limit=38),
    )
    exact, estimated = found(model, take, lambda: F.cross_entropy(model(x), Y))
    assert (exact.way, exact.exact, exact.note) == ("products", True, "")
    assert (estimated.way, estimated.exact, len(estimated.draws)) == ("hutchinson", False, 2)
    assert "39 parameters are too many" in estimated.note


def test_half_precision_is_summed_in_single():
    model, x = network("tanh")
    model.bfloat16()
    truth = full_hessian(model, lambda m: F.cross_entropy(m(x.bfloat16().double()), Y))
    curvature = found(model, exact_diagonal, lambda: F.cross_entropy(model(x.bfloat16()), Y))
    # a product of bfloat16 has three digits
    assert curvature.total() == pytest.approx(truth.trace().item(), rel=3e-2)


def test_no_draw_is_refused():
    model, x = network("linear")
    take = lambda hessian, names: hutchinson(hessian, names, torch.Generator(), draws=0)  # noqa: E731
    with pytest.raises(ValueError, match="at least one draw"):
        found(model, take, lambda: F.cross_entropy(model(x), Y))


def test_a_loss_that_counts_for_nothing_has_no_curvature():
    model, x = network("linear")
    with pytest.raises(Unavailable, match="is zero"):
        found(model, exact_diagonal, lambda: F.cross_entropy(model(x), Y) * 0)


def test_a_straight_line_has_none_either():
    model, x = network("linear")
    assert found(model, exact_diagonal, lambda: model(x).mean()).total() == 0
