"""The largest stable curvature, against the optimizer itself on a parabola."""

import pytest
import torch
from torch.optim import SGD, Adam

from cockpit.tracking.stability import largest_stable_curvature, stable_below

SETTINGS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.5, "dampening": 0.3},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.8, "nesterov": True, "weight_decay": 0.5},
    {"weight_decay": 2.0},
]


def optimizer(cls=SGD, **settings):
    return cls([torch.nn.Parameter(torch.ones(1, dtype=torch.float64))], **{"lr": 0.1, **settings})


def grows(curvature, settings):
    """Whether ``θ`` of the loss ``curvature · θ² / 2`` runs away."""
    sgd = optimizer(**settings)
    (theta,) = sgd.param_groups[0]["params"]
    for _ in range(3000):
        sgd.zero_grad()
        (curvature * theta**2 / 2).sum().backward()
        sgd.step()
    return not abs(theta.item()) < 1


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_steps_shrink_below_the_limit_and_grow_above_it(settings):
    limit = stable_below([optimizer(**settings)])
    assert not grows(0.99 * limit, settings)
    assert grows(1.01 * limit, settings)


def test_plain_gradient_descent_is_stable_below_two_over_the_rate():
    assert largest_stable_curvature(0.1) == pytest.approx(20)


@pytest.mark.parametrize(
    "optimizers",
    [
        [optimizer(Adam)],
        [optimizer(), optimizer(Adam)],
        [optimizer(), optimizer(lr=0.2)],
        [optimizer(lr=0.0)],
        [optimizer(maximize=True)],
        [optimizer(lr=torch.tensor(0.1))],
        [],
    ],
    ids=["adaptive", "one of two adaptive", "different rates", "no rate", "uphill", "a rate on the device", "none"],
)
def test_where_the_hessian_alone_does_not_decide_there_is_no_limit(optimizers):
    assert stable_below(optimizers) is None


def test_groups_that_agree_have_one_limit():
    first, second = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    assert stable_below([SGD([{"params": [first]}, {"params": [second]}], lr=0.1)]) == pytest.approx(20)
