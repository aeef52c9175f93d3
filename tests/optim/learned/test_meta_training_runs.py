"""Meta-training from its command to its files: checkpoints to go on from, and the run that it writes."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from rules import TASK

from cockpit import load_run
from cockpit.cli import main
from cockpit.optim.learned import RECIPES, MetaTraining, Sines, Weights, meta_train, training
from cockpit.optim.learned.recipe import AnnealedAdam
from cockpit.testing import check_panel


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


def test_more_episodes_have_an_annealed_rate_fall_more_slowly_from_the_beginning_on(
    recipe, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    annealed = functools.partial(AnnealedAdam, lr=0.1, steps=2)
    monkeypatch.setitem(RECIPES, "small", lambda: dataclasses.replace(recipe, optimizer=annealed, iterations=2))
    meta_train = ["meta-train", "small", "--quiet", "--episodes"]
    for episodes, steps in ((1, 2), (3, 3)):
        assert main([*meta_train, str(episodes), "--out", f"{episodes}.pt"]) == 0
        found = Weights.load(tmp_path / f"{episodes}.pt", type(recipe.rule))
        assert found.provenance["optimizer"] == f"AnnealedAdam(lr=0.1, steps={steps})"
    assert main([*meta_train, "2", "--out", "1.pt", "--resume"]) == 0
    assert main([*meta_train, "3", "--out", "1.pt", "--resume"]) == 2
    said = capsys.readouterr().err
    assert (
        "it has {'optimizer': 'AnnealedAdam(lr=0.1, steps=2)'} where {'optimizer': 'AnnealedAdam(lr=0.1, steps=3)'}"
        in said
    )
    assert "begin anew" in said


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


@pytest.mark.parametrize(("longest", "kept"), [(3600.0, 2), (0.0, 3)], ids=["when due", "when long without"])
def test_an_interrupted_meta_training_ends_its_run_so_and_its_last_checkpoint_stands(
    recipe, tmp_path, monkeypatch, longest, kept
):
    iterate, done = MetaTraining.iterate, []
    monkeypatch.setattr(training, "LONGEST", longest)

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
    assert torch.load(tmp_path / "checkpoint", weights_only=True)["training"]["iteration"] == kept
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


def test_whoever_interrupts_the_command_is_told_how_to_go_on(recipe, tmp_path, monkeypatch, capsys):
    iterate = MetaTraining.iterate

    def until_the_third(self):
        if self.iteration == 2:
            raise KeyboardInterrupt
        return iterate(self)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, "small", lambda: recipe)
    monkeypatch.setattr(MetaTraining, "iterate", until_the_third)
    assert main(["meta-train", "small", "--quiet"]) == 130
    assert "resume" not in capsys.readouterr().err
    assert main(["meta-train", "small", "--quiet", "--every", "1"]) == 130
    assert "cockpit: --resume goes on from small.pt.checkpoint\n" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, "small", lambda: recipe)
    assert main(["meta-train", "small", "--quiet", "--resume"]) == 0
    assert (tmp_path / "small.pt").exists()


def test_an_interrupted_meta_training_is_not_begun_anew_over_its_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lure.pt.checkpoint").write_bytes(b"of hours")
    assert main(["meta-train", "lure", "--quiet"]) == 2
    assert "lure.pt.checkpoint is there already: choose another --out, or go on" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lure.pt.checkpoint"]


def test_an_unknown_recipe_is_answered_with_those_that_there_are(capsys):
    assert main(["meta-train", "lur"]) == 2
    assert "there is no recipe 'lur'; there are: lure, mpt_lure, meta_sgd" in capsys.readouterr().err


def test_a_progress_bar_shows_the_meta_loss(recipe, capsys):
    meta_train(dataclasses.replace(recipe, iterations=1), seed=0)
    assert "1/1" in (said := capsys.readouterr().err)
    assert "meta-loss" in said
