"""Meta-training: what it learns, how it goes on, and what its run shows."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from rules import TASK, MomentumRule, chance

from cockpit import load_run
from cockpit.cli import main
from cockpit.optim.learned import (
    PES,
    RECIPES,
    LURERule,
    MetaTraining,
    Recipe,
    Sines,
    Unrolled,
    Weights,
    meta_train,
)
from cockpit.optim.learned.cohort import Cohort
from cockpit.optim.learned.recipe import AnnealedAdam
from cockpit.testing import check_panel

ESTIMATORS = {"unrolled": Unrolled(3), "PES": PES(3, 0.01)}


@pytest.fixture(params=ESTIMATORS)
def recipe(request):
    return Recipe(
        name="small",
        rule=MomentumRule(),
        tasks=(TASK, Sines(points=4, widths=(1, 2, 1))),
        estimator=ESTIMATORS[request.param],
        copies=4,
        horizon=8,
        iterations=6,
        clip=1.0,
        test=TASK,
        test_copies=2,
    )


def all_tensors(state):
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return [tensor for value in values for tensor in all_tensors(value)]


def test_a_resumed_meta_training_is_the_same_bit_for_bit(recipe, tmp_path):
    whole = MetaTraining(recipe, seed=3)
    losses = [whole.iterate().loss for _ in range(6)]
    checkpoint = tmp_path / "some.checkpoint"
    meta_train(dataclasses.replace(recipe, iterations=2), seed=3, checkpoint=checkpoint, quiet=True)
    torch.manual_seed(99)  # chance of others' making has no part in it
    found = meta_train(recipe, seed=3, checkpoint=checkpoint, resume=True, run=tmp_path / "run", quiet=True)
    assert all(torch.equal(found.meta[name], tensor) for name, tensor in whole.meta.items())
    assert list(load_run(tmp_path / "run")["loss"].values) == losses[2:]
    assert list(load_run(tmp_path / "run")["loss"].steps) == [2, 3, 4, 5]
    saved = torch.load(checkpoint, weights_only=True)["training"]
    mine, theirs = all_tensors(whole.state_dict()), all_tensors(saved)
    assert len(mine) == len(theirs) > 20
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


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


def test_more_updates_than_an_annealed_rate_has_are_refused_when_it_begins_and_when_it_goes_on(recipe, tmp_path):
    annealed = functools.partial(AnnealedAdam, lr=0.1, steps=2)
    whole = dataclasses.replace(recipe, optimizer=annealed, iterations=2)
    meta_train(whole, checkpoint=tmp_path / "c", quiet=True)
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"'small' falls to zero in 2 updates.*got 3: ask for at most 2"):
            meta_train(
                dataclasses.replace(whole, iterations=3), checkpoint=tmp_path / "c", resume=resume, quiet=True,
                run=tmp_path / "run",
            )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_recipe_with_an_annealed_rate_is_not_learned_for_longer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["meta-train", "learned_adam", "--episodes", "401", "--quiet"]) == 2
    assert "falls to zero in 400 updates" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


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


def test_where_all_problems_diverge_nothing_is_learned_and_the_run_has_a_gap(recipe, tmp_path, monkeypatch):
    broken = dataclasses.replace(recipe, tasks=(TASK,), iterations=1, test=None)
    monkeypatch.setattr(Sines, "loss", lambda self, params, batch: params["0.weight"].sum() * float("nan"))
    found = meta_train(broken, run=tmp_path / "run", quiet=True)
    assert all(torch.equal(found.meta[name], t.detach()) for name, t in MetaTraining(broken).meta.items())
    run = load_run(tmp_path / "run")
    assert np.isnan(run["loss"].values[0])
    assert run["grad_norm"].missing[0]
    assert run["lost"].values[0] == 4


def test_its_run_is_watched_as_any_other(recipe, tmp_path):
    found = meta_train(recipe, run=tmp_path / "meta", every=3, quiet=True)
    run = load_run(tmp_path / "meta")
    assert run.state == "finished"
    assert run.config["estimator"].startswith(type(recipe.estimator).__name__)
    assert run.header.optimizer[0]["class"] == "Adam"
    for key in ("loss", "grad_norm", "learning_rate", "meta_rms", "meta_mean", "lost"):
        assert list(run[key].steps) == list(range(6)), key
    assert list(run["test/loss"].steps) == [2, 5]
    assert run["meta_rms"].layers.names == ("rate", "decay")
    last = [float(tensor.square().mean().sqrt()) for tensor in found.meta.values()]
    assert run["meta_rms"].layers.values[-1] == pytest.approx(last)
    assert run["grad_norm"].values == pytest.approx(np.linalg.norm(run["grad_norm"].layers.values, axis=1))
    for key in ("loss", "grad_norm", "meta_rms", "lost"):
        check_panel(tmp_path / "meta", key)


def test_an_interrupted_meta_training_ends_its_run_so_and_its_last_checkpoint_stands(recipe, tmp_path, monkeypatch):
    iterate, done = MetaTraining.iterate, []

    def until_the_fourth(self):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return iterate(self)

    monkeypatch.setattr(MetaTraining, "iterate", until_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        meta_train(recipe, run=tmp_path / "run", checkpoint=tmp_path / "checkpoint", every=2, quiet=True)
    monkeypatch.undo()
    assert load_run(tmp_path / "run").state == "interrupted"
    resumed = meta_train(
        recipe, run=tmp_path / "run", checkpoint=tmp_path / "checkpoint", every=2, resume=True, quiet=True
    )
    run = load_run(tmp_path / "run")
    assert list(run["loss"].steps) == list(range(6))
    assert resumed.fingerprint() == meta_train(recipe, quiet=True).fingerprint()


@pytest.mark.parametrize(("change", "seed", "words"), [
    ({"horizon": 9}, 0, "'horizon': 8.* where .*'horizon': 9.* is asked for"),
    ({}, 1, "'seed': 0.* where .*'seed': 1"),
])  # fmt: skip
def test_a_checkpoint_of_another_meta_training_is_refused(recipe, tmp_path, change, seed, words):
    meta_train(dataclasses.replace(recipe, iterations=1), checkpoint=tmp_path / "c", quiet=True)
    with pytest.raises(ValueError, match=words):
        meta_train(dataclasses.replace(recipe, **change), seed=seed, checkpoint=tmp_path / "c", resume=True, quiet=True)


def test_a_resume_needs_a_checkpoint(recipe, tmp_path):
    with pytest.raises(ValueError, match="needs the checkpoint to go on from"):
        meta_train(recipe, resume=True, quiet=True)
    with pytest.raises(FileNotFoundError):
        meta_train(recipe, checkpoint=tmp_path / "none", resume=True, quiet=True)
    (tmp_path / "text").write_text("no checkpoint")
    with pytest.raises(ValueError, match="text is no file of a checkpoint of a meta-training"):
        meta_train(recipe, checkpoint=tmp_path / "text", resume=True, quiet=True)


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


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_learns_by_name_on_the_command_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = dataclasses.replace(RECIPES[name](), copies=1, horizon=2, test_copies=1)
    small = dataclasses.replace(small, estimator=dataclasses.replace(small.estimator, length=1))
    monkeypatch.setitem(RECIPES, name, lambda: small)
    assert main(["meta-train", name, "--episodes", "1", "--quiet"]) == 0
    assert capsys.readouterr().out == f"{name}.pt\n"
    assert main(["meta-train", name, "--episodes", "1", "--quiet"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["meta-train", name, "--episodes", "2", "--quiet", "--resume"]) == 0
    found = Weights.load(tmp_path / f"{name}.pt", type(small.rule))
    assert found.provenance["iterations"] == 2
    run = load_run(tmp_path / "runs" / f"meta-{name}")
    assert list(run["loss"].steps) == [0, 1]


def test_an_unknown_recipe_is_answered_with_those_that_there_are(capsys):
    assert main(["meta-train", "lur"]) == 2
    assert "there is no recipe 'lur'; there are: lure, mpt_lure, meta_sgd" in capsys.readouterr().err


def test_a_progress_bar_shows_the_meta_loss(recipe, capsys):
    meta_train(dataclasses.replace(recipe, iterations=1), seed=0)
    assert "1/1" in (said := capsys.readouterr().err)
    assert "meta-loss" in said
