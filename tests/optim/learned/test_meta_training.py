"""Meta-training: what it learns, and from what."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from rules import TASK, MomentumRule, chance

from cockpit import load_run
from cockpit.optim.learned import PES, LURERule, MetaTraining, Recipe, Unrolled, meta_train
from cockpit.optim.learned.cohort import Cohort
from cockpit.optim.learned.recipe import AnnealedAdam


def test_the_same_seed_learns_the_same_and_another_something_else(recipe):
    first, second, other = (meta_train(recipe, seed=seed, quiet=True) for seed in (1, 1, 2))
    assert first.fingerprint() == second.fingerprint() != other.fingerprint()


def test_pytorchs_own_random_numbers_are_left_as_they_were(recipe):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    meta_train(recipe, quiet=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("estimator", [Unrolled(5), PES(5, 1e-4)], ids=["unrolled", "PES"])
def test_trainings_get_better(estimator):
    recipe = Recipe(
        "lure", LURERule(TASK.shapes), (TASK,), estimator, copies=8, horizon=10, iterations=30,
        optimizer=functools.partial(torch.optim.Adam, lr=1e-2),
    )  # fmt: skip
    training = MetaTraining(recipe)
    losses = [training.iterate().loss for _ in range(30)]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert all(float(weight) > 0.01 for name, weight in training.detached().items() if "weight" in name)


def test_the_meta_gradient_is_the_mean_over_all_problems_and_is_clipped(recipe):
    sgd = dataclasses.replace(recipe, optimizer=functools.partial(torch.optim.SGD, lr=1.0), clip=1e-3)
    training, same = MetaTraining(sgd), MetaTraining(sgd)
    before = training.detached()
    before = {name: tensor.clone() for name, tensor in before.items()}
    estimates = [sgd.estimator.estimate(cohort, before, sgd.summary, same._generator) for cohort in same._cohorts]
    progress = training.iterate()
    assert progress.loss == pytest.approx(float(torch.cat([e.losses for e in estimates]).mean()))
    mean = {name: torch.cat([e.gradients[name] for e in estimates]).mean(0) for name in before}
    length = float(torch.cat([g.flatten() for g in mean.values()]).norm())
    assert progress.norm == pytest.approx(length)
    assert length > 1e-3
    for name, tensor in before.items():
        torch.testing.assert_close(training.meta[name].detach(), tensor - mean[name] * 1e-3 / length)


@dataclasses.dataclass(frozen=True)
class Stay:
    """Of updates that move at all."""

    strength: float = 0.5

    def __call__(self, before, after):
        return self.strength * sum((after[name] - before[name]).square().sum() for name in before)


@pytest.mark.parametrize("estimator", [Unrolled(3), PES(3, 1e-4)], ids=["unrolled", "PES"])
def test_a_penalty_is_added_to_each_steps_outer_loss_and_differentiated_with_it(estimator):
    rule, leaf = LURERule(TASK.shapes), 0.05 * torch.rand(len(TASK.shapes), generator=chance(5))
    meta = dict(zip(rule.tensors, leaf.requires_grad_().unbind(), strict=True))
    shape = {"copies": 64, "horizon": 8, "length": 3, "sides": estimator.sides}
    found = estimator.estimate(
        Cohort(rule, TASK, **shape, generator=chance()),
        {name: tensor.detach() for name, tensor in meta.items()}, torch.sum, chance(1), Stay(),
    )  # fmt: skip
    cohort = Cohort(rule, TASK, **shape, generator=chance())
    losses = []
    for problem in range(64):
        data = {name: tensor[problem] for name, tensor in cohort.data.items()}
        params, total = {name: p[problem] for name, p in cohort.lives[0].params.items()}, 0.0
        for _ in range(3):
            gradients = torch.func.grad(TASK.loss)(params, data)
            moved = {name: torch.tanh(meta[name] * g) for name, g in gradients.items()}
            params = {name: p - moved[name] for name, p in params.items()}
            total = total + TASK.loss(params, data) + 0.5 * sum(step.square().sum() for step in moved.values())
        losses.append(total)
    exact = torch.autograd.grad(torch.stack(losses).mean(), leaf)[0]
    estimate = torch.stack(list(found.gradients.values()), 1)
    torch.testing.assert_close(found.losses, torch.stack(losses).detach(), rtol=1e-3, atol=1e-4)
    if estimator.sides == 1:
        torch.testing.assert_close(estimate.mean(0), exact, rtol=1e-4, atol=1e-5)
    else:
        assert ((estimate.mean(0) - exact).abs() < 3 * estimate.std(0) / 8).all()


def test_a_penalty_keeps_updates_small_and_is_named_in_weights_and_log(recipe, tmp_path):
    free = dataclasses.replace(recipe, iterations=1)
    kept = dataclasses.replace(free, penalty=Stay(100.0))
    assert MetaTraining(kept).iterate().loss > MetaTraining(free).iterate().loss
    found = meta_train(kept, run=tmp_path / "run", quiet=True)
    assert found.provenance["penalty"] == load_run(tmp_path / "run").config["penalty"] == "Stay(strength=100.0)"
    tried = [load_run(tmp_path / "run")["test/loss"].values[-1]]
    assert tried[0] < 100


def test_problems_are_at_different_stages_and_come_to_their_end():
    cohort = Cohort(MomentumRule(), TASK, copies=4, horizon=8, length=3, sides=1, generator=chance())
    assert cohort.left.tolist() == [3, 6, 9, 9]  # three truncations, the fewest that hold eight steps
    meta, replaced = MomentumRule().meta_parameters(chance()), []
    for _ in range(6):
        Unrolled(3).estimate(cohort, meta, torch.mean, chance())
        replaced.append(cohort.renew(torch.zeros(4, dtype=torch.bool), chance()))
    assert replaced == [1, 1, 2, 1, 1, 2]
    assert cohort.step.tolist() == [6, 3, 0, 0]


def test_each_task_may_have_a_horizon_of_its_own(recipe):
    training = MetaTraining(dataclasses.replace(recipe, horizon=(6, 12)))
    left = [float(cohort.left.max()) for cohort in training._cohorts]
    assert left == [6, 12]
    assert training.weights().provenance["horizon"] == [6, 12]


def test_an_annealed_rate_falls_to_zero_along_a_cosine_and_resumes():
    meta = torch.ones(1, requires_grad=True)
    optimizer = AnnealedAdam([meta], lr=0.1, steps=4)
    places = [1.0]
    for _ in range(6):
        meta.grad = torch.ones(1)
        optimizer.step()
        resumed = AnnealedAdam([meta], lr=0.1, steps=4)
        resumed.load_state_dict(optimizer.state_dict())
        optimizer = resumed
        places.append(float(meta.detach()))
    rates = [(1 + np.cos(np.pi * t / 4)) / 20 for t in range(4)] + [0, 0]
    np.testing.assert_allclose(-np.diff(places), rates, atol=1e-6)


def test_problems_that_diverge_are_left_out_and_replaced(recipe):
    training = MetaTraining(recipe)
    cohort = training._cohorts[0]
    for life in cohort.lives:
        life.params["0.weight"][1] = float("inf")
    progress = training.iterate()
    assert progress.lost == 1
    assert np.isfinite(progress.loss)
    assert all(tensor.isfinite().all() for tensor in training.meta.values())
    assert all(life.params["0.weight"].isfinite().all() for life in cohort.lives)
    assert cohort.step[1] == 0


@pytest.mark.parametrize(("change", "words"), [
    ({"tasks": ()}, "no task to learn from"),
    ({"copies": 0}, "needs positive numbers; got {'copies': 0}"),
    ({"clip": 0.0}, "positive norm; got clip=0.0"),
    ({"horizon": (8, 0)}, "needs positive numbers; got {'horizon': 0}"),
    ({"horizon": (8,)}, "has 2 tasks and 1 horizons"),
])  # fmt: skip
def test_what_is_no_recipe_is_refused(recipe, change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(recipe, **change)
