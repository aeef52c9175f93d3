"""What scripts for f-dangel/cockpit do with a cockpit beside the steps: logging, output, endings, mistakes."""

from __future__ import annotations

import gc
import inspect
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backpack.extensions import BatchGrad
from script import N, Script
from torch import nn
from torch.nn.modules import module as torch_module

from cockpit import Cockpit, CockpitPlotter, CockpitWarning, load_run
from cockpit.compat import ParameterCockpit
from cockpit.quantities import GradHist1d, GradNorm, Loss, NormTest
from cockpit.store import Writer
from cockpit.utils.configuration import configuration
from cockpit.utils.schedules import linear

# torch's own remark on full backward hooks, of the first layer that is extended
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def test_output_is_by_step_and_by_name(script: Script, tmp_path: Path) -> None:
    quantities = [q(linear(1)) for q in (Loss, GradNorm, NormTest)] + [GradHist1d(linear(1), bins=4)]
    cockpit = script.cockpit(*quantities, run=tmp_path / "run")
    cockpit.log(0, 0, 1.0, 2.0, 3.0, 0.1, 0.2, 0.3, 0.5)
    assert cockpit.get_output()[0]["valid_loss"] == 2.0
    script.step(cockpit, 0)
    truth, output = script.truth(0), cockpit.get_output()[0]
    assert output["Loss"] == pytest.approx(truth.loss())
    assert output["GradNorm"] == pytest.approx([truth.grad_norm([name]) for name in truth.gradients])
    assert output["NormTest"] == pytest.approx(truth.norm_test())
    np.testing.assert_array_equal(output["GradHist1d"]["hist"], truth.histogram(-2, 2, 4))
    np.testing.assert_array_equal(output["GradHist1d"]["edges"], [-2, -1, 0, 1, 2])
    assert output["train_accuracy"] == 0.1
    assert output["learning_rate"] == 0.1
    assert load_run(cockpit.run)["valid/loss"].values.tolist() == [2.0]
    cockpit.close()


def test_without_quantities_only_what_is_logged_is_there(script: Script) -> None:
    cockpit = Cockpit(script.model.parameters())
    script.step(cockpit, 0)
    cockpit.log(3, 1, 1.0, 2.0, 3.0, 0.1, 0.2, None, 0.5)
    assert cockpit.run is None
    assert list(cockpit.get_output()) == [3]
    assert cockpit.output[3]["test_accuracy"] is None


@pytest.mark.parametrize("by", ["environment", "rank", "argument"])
def test_a_cockpit_that_is_turned_off_lets_everything_pass(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "environment":
        monkeypatch.setenv("COCKPIT_DISABLE", "1")
    if by == "rank":  # one process writes such a script's log
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
    gc.collect()  # cockpits of other tests that were not closed
    hooks = len(torch_module._global_forward_pre_hooks)
    cockpit = script.cockpit("loss", run=tmp_path / "run", enabled=by != "argument")
    script.step(cockpit, 0, BatchGrad())
    cockpit.write(tmp_path / "log")
    cockpit.log(1, 1, 1.0, 2.0, 3.0, 0.1, 0.2, 0.3, 0.5)
    cockpit.close()
    assert len(torch_module._global_forward_pre_hooks) == hooks
    assert list(cockpit.get_output()) == [1]
    assert script.model[0].weight.grad_batch.shape[0] == N
    assert not (tmp_path / "run").exists()


MADE_OF_THE_LOG: dict[str, Callable[[ParameterCockpit, Path], object]] = {
    "output": lambda cockpit, _: cockpit.get_output(),
    "file": lambda cockpit, place: cockpit.write(place / "log"),
    "picture": lambda cockpit, _: CockpitPlotter().plot(cockpit, show_plot=False),
}


@pytest.mark.parametrize("what", MADE_OF_THE_LOG)
def test_what_is_made_of_a_log_that_cannot_be_written_is_said_to_lack_the_latest(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    cockpit = script.cockpit("loss", run=tmp_path / "run")
    script.step(cockpit, 0)
    MADE_OF_THE_LOG[what](cockpit, tmp_path)
    with closing(sqlite3.connect(tmp_path / "run" / "rank0.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        script.step(cockpit, 1)
        with monkeypatch.context() as hurried:
            hurried.setattr(Writer.flush, "__defaults__", (0.2,))
            with pytest.warns(CockpitWarning, match="lacks the latest readings") as said:
                MADE_OF_THE_LOG[what](cockpit, tmp_path)
    assert [warning.filename for warning in said] == [__file__]
    MADE_OF_THE_LOG[what](cockpit, tmp_path)
    assert list(cockpit.get_output()) == [0, 1]
    cockpit.close()


MISTAKES: dict[str, tuple[Callable[[Script], Any], type[Exception], str]] = {
    "used up": (lambda s: Cockpit(iter([])), ValueError, "no parameters were given; was the generator"),
    "frozen": (lambda s: Cockpit([nn.Parameter(torch.ones(2), False)]), ValueError, r"shape \[2\] has requires_grad"),
    "no tensor": (lambda s: Cockpit([3]), TypeError, "or parameters of one, got int among the parameters"),
    "no quantity": (lambda s: s.cockpit(3), ValueError, "a quantity of cockpit.quantities or an instrument was"),
    "no optimizer": (lambda s: s.cockpit("loss")(0, info={}), ValueError, "the optimizer is missing: write"),
    "too late": (
        lambda s: s.cockpit("loss")(0, info={"optimizer": s.optimizer}),
        RuntimeError,
        "4 of the parameters belong to no module that was called since the cockpit was made",
    ),
    "adaptive bins": (lambda s: GradHist1d(linear(1), adapt=3), ValueError, "bins that adapt are not supported"),
    "label": (lambda s: configuration("tiny"), ValueError, "a configuration is one of economy, business, full"),
    "interval": (lambda s: linear(0), ValueError, "the interval must be at least 1"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(script: Script, name: str) -> None:
    make, error, words = MISTAKES[name]
    with pytest.raises(error, match=words):
        make(script)


def test_quantities_are_added_before_the_run_begins(script: Script, tmp_path: Path) -> None:
    cockpit = script.cockpit(run=tmp_path / "run")
    cockpit.add(Loss(linear(1)))
    script.step(cockpit, 0)
    with pytest.raises(RuntimeError, match="quantities are added before the first step"):
        cockpit.add(GradNorm(linear(1)))
    cockpit.close()


def test_the_kind_of_cockpit_depends_on_the_first_argument(script: Script, tmp_path: Path) -> None:
    assert isinstance(Cockpit(script.model.parameters(), None), ParameterCockpit)
    params = list(script.model.parameters())
    assert isinstance(Cockpit(params, [Loss(linear(1))]), ParameterCockpit)
    with pytest.raises(TypeError, match="got list"):
        Cockpit(params, script.optimizer)
    assert list(inspect.signature(Cockpit).parameters)[:2] == ["model", "optimizer"]


def test_a_script_that_ends_leaves_a_finished_run_and_one_that_breaks_does_not(tmp_path: Path) -> None:
    program = """
import sys, torch
from backpack import extend
from cockpit import Cockpit
model, loss_fn = extend(torch.nn.Linear(2, 2)), extend(torch.nn.MSELoss())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
cockpit = Cockpit(model.parameters(), ["loss"], run=sys.argv[1])
loss = loss_fn(model(torch.ones(3, 2)), torch.ones(3, 2))
with cockpit(0, info={"optimizer": optimizer}):
    loss.backward()
1 / int(sys.argv[2])
"""
    for number, state in (("1", "finished"), ("0", "interrupted")):
        subprocess.run([sys.executable, "-c", program, tmp_path / number, number], capture_output=True)
        run = load_run(tmp_path / number)
        assert run.state == state
        assert run["loss"].steps.tolist() == [0]
