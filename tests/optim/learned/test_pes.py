"""Persistent evolution strategies estimate the gradient of whole trainings."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from rules import chance

from cockpit.optim.learned import PES, Rule, Task, Unrolled
from cockpit.optim.learned.cohort import Cohort

SIGMA, TRUNCATIONS, LENGTH = 0.3, 2, 2


@dataclass(frozen=True)
class Descent(Rule):
    """Gradient descent with a rate and a drift, so that losses are polynomials in both."""

    name = "descent"

    def meta_parameters(self, generator):
        return {"rate": torch.tensor(0.2, dtype=torch.float64), "drift": torch.tensor(0.1, dtype=torch.float64)}

    def update(self, meta, gradients, params, state, signals):
        return {name: p - meta["rate"] * gradients[name] + meta["drift"] for name, p in params.items()}, state


class Parabola(Task):
    """``(x − c)²``: the same for every copy."""

    name = "parabola"

    def sample(self, count, generator):
        ones = torch.ones(count, dtype=torch.float64)
        return {"x": 2 * ones}, {"centre": 0.5 * ones}

    def loss(self, params, batch):
        return (params["x"] - batch["centre"]).square()


def smoothed_loss(meta, perturbations):
    """Sum over truncations of the meta-losses, each of them run with a perturbation of its own, by a plain loop."""
    x, total = torch.tensor(2.0, dtype=torch.float64), 0.0
    for rate, drift in perturbations:
        losses = []
        for _ in range(LENGTH):
            x = x - (meta["rate"] + rate) * 2 * (x - 0.5) + meta["drift"] + drift
            losses.append((x - 0.5).square())
        total = total + torch.stack(losses).mean()
    return total


def quadrature():
    """Nodes and weights that integrate polynomials of a degree below 14 exactly over independent normal numbers.

    Nodes have shape ``[nodes, truncations, 2]``.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    axes = TRUNCATIONS * 2
    grid = np.stack(np.meshgrid(*[nodes] * axes, indexing="ij"), -1).reshape(-1, TRUNCATIONS, 2)
    product = np.prod(np.stack(np.meshgrid(*[weights / weights.sum()] * axes, indexing="ij"), -1), -1).ravel()
    return torch.from_numpy(SIGMA * grid), torch.from_numpy(product)


def begun(copies, sides=2):
    return Cohort(
        Descent(), Parabola(), copies=copies, horizon=100, length=LENGTH, sides=sides, generator=chance()
    )  # fmt: skip


def test_the_expectation_is_the_gradient_of_the_smoothed_loss():
    nodes, weights = quadrature()
    estimator, cohort = PES(LENGTH, SIGMA), begun(len(nodes))
    meta = Descent().meta_parameters(chance())
    expectation = {"rate": 0.0, "drift": 0.0}
    for truncation in range(TRUNCATIONS):
        noise = {"rate": nodes[:, truncation, 0], "drift": nodes[:, truncation, 1]}
        estimate = estimator.perturbed(cohort, meta, noise, torch.mean, chance())
        for name, gradient in estimate.gradients.items():
            expectation[name] += (weights * gradient).sum()
    leaves = {name: tensor.requires_grad_() for name, tensor in Descent().meta_parameters(chance()).items()}
    losses = torch.func.vmap(lambda node: smoothed_loss(leaves, node))(nodes)
    exact = torch.autograd.grad((weights * losses).sum(), list(leaves.values()))
    for name, gradient in zip(leaves, exact, strict=True):
        assert float(expectation[name]) == pytest.approx(float(gradient), rel=1e-10)


def test_small_perturbations_give_the_gradient_of_the_full_unroll_within_three_standard_errors():
    copies, sigma = 4000, 1e-3
    estimator, cohort = PES(LENGTH, sigma), begun(copies)
    meta, random = Descent().meta_parameters(chance()), chance(3)
    total = {name: torch.zeros(copies, dtype=torch.float64) for name in meta}
    for _ in range(TRUNCATIONS):
        for name, gradient in estimator.estimate(cohort, meta, torch.mean, random).gradients.items():
            total[name] = total[name] + gradient
    leaves = {name: tensor.requires_grad_() for name, tensor in Descent().meta_parameters(chance()).items()}
    full = smoothed_loss(leaves, [(0.0, 0.0)] * TRUNCATIONS)
    for name, exact in zip(leaves, torch.autograd.grad(full, list(leaves.values())), strict=True):
        error = float(total[name].std()) / copies**0.5
        assert abs(float(total[name].mean() - exact)) < 3 * error
        assert error < 0.1 * abs(float(exact))


def test_truncated_gradients_are_biased_where_those_of_pes_are_not():
    meta = Descent().meta_parameters(chance())
    cohort, found = begun(1, sides=1), 0.0
    for _ in range(TRUNCATIONS):
        found += float(Unrolled(LENGTH).estimate(cohort, meta, torch.mean, chance()).gradients["rate"])
    leaf = meta["rate"].requires_grad_()
    (exact,) = torch.autograd.grad(smoothed_loss(meta, [(0.0, 0.0)] * TRUNCATIONS), [leaf])
    assert abs(found - float(exact)) > 0.1 * abs(float(exact))


def test_perturbations_are_forgotten_with_the_training_that_had_them():
    cohort = begun(3)
    PES(LENGTH, SIGMA).estimate(cohort, Descent().meta_parameters(chance()), torch.mean, chance(1))
    before = cohort.drift["rate"].clone()
    over = torch.tensor([False, True, False])
    assert cohort.renew(over, chance()) == 1
    assert cohort.drift["rate"].tolist() == [float(before[0]), 0.0, float(before[2])]
    assert [life.params["x"][1] for life in cohort.lives] == [2.0, 2.0]
    assert cohort.step.tolist() == [2.0, 0.0, 2.0]


def test_both_sides_of_a_pair_are_opposite():
    cohort = begun(2)
    noise = {name: torch.full((2,), 0.1, dtype=torch.float64) for name in ("rate", "drift")}
    PES(1, SIGMA).perturbed(cohort, Descent().meta_parameters(chance()), noise, torch.mean, chance())
    plus, minus = (float(life.params["x"][0]) for life in cohort.lives)
    assert plus == pytest.approx(2 - 0.3 * 3 + 0.2)
    assert minus == pytest.approx(2 - 0.1 * 3 + 0.0)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: PES(10, 0.0), "positive standard deviation; got sigma=0.0"),
    (lambda: PES(0), "at least one step; got length=0"),
    (lambda: Unrolled(0), "at least one step; got length=0"),
])  # fmt: skip
def test_what_is_no_estimator_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
