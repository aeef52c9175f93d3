"""Names of runs, runs that are resumed, and cockpits that are turned off."""

import re
import sys
import threading

import numpy as np
import pytest
import torch
from loop import Loop, hooks
from torch.overrides import _get_current_function_mode_stack

from cockpit import Cockpit, list_runs, load_run
from cockpit.store import Reader, RunIsLive


def test_without_a_name_the_run_is_called_after_script_and_time(loop, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/train_it.py", "--lr", "0.1"])
    with Cockpit(loop.model, loop.optimizer) as cockpit:
        loop.steps(cockpit, 1)
    assert re.fullmatch(r"runs/train_it-\d{8}-\d{6}", cockpit.run.as_posix())
    assert [summary.name for summary in list_runs("runs")] == [cockpit.run.name]
    assert str(cockpit.run) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/site-packages/mine/__main__.py"], "mine"),
        (["-c"], "python"),
        ([""], "python"),
        ([], "python"),
        (["/x/ipykernel_launcher.py"], "notebook"),
    ],
)
def test_a_run_has_a_name_also_where_there_is_no_script(argv, name, loop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", argv)
    with Cockpit(loop.model, loop.optimizer) as cockpit:
        assert cockpit.run.name.startswith(f"{name}-2")


def test_unnamed_runs_that_begin_in_the_same_second_keep_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [Cockpit(loop.model, loop.optimizer) for loop in (Loop(), Loop(), Loop())]
    assert len({cockpit.run for cockpit in made}) == 3
    for cockpit in made:
        cockpit.close()


def test_a_finished_runs_name_gets_a_suffix_that_is_printed(begin, tmp_path, capsys):
    for name in ("run", "run-2", "run-3"):
        cockpit = begin()
        cockpit.close()
        assert cockpit.run == tmp_path / name
    assert f"{tmp_path / 'run'} holds a finished run; this one is {tmp_path / 'run-3'}" in capsys.readouterr().err
    assert load_run(tmp_path / "run-3").name == "run-3"


def test_a_live_run_is_refused_to_a_second_cockpit(begin, tmp_path):
    first = begin()
    for resume in (False, True):
        with pytest.raises(RunIsLive, match="is being written by this process: close that run first"):
            begin(resume=resume)
    first.close()
    assert begin(resume=True).run == tmp_path / "run"


def test_a_resumed_run_goes_on_with_steps_and_time(begin, loop, tmp_path):
    first = begin(track=10, instruments="loss+time")
    loop.steps(first, 25)  # the last five are in no reading
    first.close()
    before = load_run(tmp_path / "run")["time"]
    second = begin(resume=True, track=10, instruments="loss+time")
    loop.steps(second, 10)
    second.close()
    run = load_run(tmp_path / "run")
    assert list(run["loss"].steps) == [0, 10, 20, 30]
    assert run["time"].values[3] > before.values[-1]
    assert (np.diff(run["time"].values) > 0).all()
    said = [event.text for event in Reader(tmp_path / "run").events()]
    assert said == ["resumed; before that, the run was finished"]


def test_a_run_that_was_cut_short_goes_on_after_its_last_point(begin, loop, tmp_path):
    first = begin(instruments="loss")
    loop.steps(first, 4)
    first._writer.close("crashed")  # as if the process had ended here
    second = begin(resume=True, instruments="loss")
    loop.steps(second, 2)
    second.close()
    assert list(load_run(tmp_path / "run")["loss"].steps) == [0, 1, 2, 3, 4, 5]


def test_resume_begins_a_run_that_is_not_there(begin, loop, tmp_path):
    cockpit = begin(resume=True)
    loop.steps(cockpit, 2)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["distance"].steps) == [0, 1]
    assert not run["distance"].missing.any()


def test_resume_without_a_name_is_refused(loop):
    with pytest.raises(ValueError, match="resume=True needs the run to continue: run='runs/<name>'"):
        Cockpit(loop.model, loop.optimizer, resume=True)


def test_a_live_runs_suffix_is_passed_over(begin, loop, tmp_path):
    begin().close()
    begin()
    assert begin().run == tmp_path / "run-3"


def test_a_run_without_a_directory_is_refused(loop):
    with pytest.raises(ValueError, match="run must name a directory for the log, such as 'runs/mnist-sgd', got ''"):
        Cockpit(loop.model, loop.optimizer, run="")


def test_a_run_in_the_home_directory_is_found_there(loop, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with Cockpit(loop.model, loop.optimizer, run="~/runs/x") as cockpit:
        assert cockpit.run == tmp_path / "runs" / "x"


def test_the_log_stays_where_it_is_if_the_script_goes_elsewhere(loop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with Cockpit(loop.model, loop.optimizer, run="run", track=1, instruments="loss") as cockpit:
        monkeypatch.chdir(tmp_path / "elsewhere")
        loop.steps(cockpit, 3)
    assert len(load_run(tmp_path / "run")["loss"].steps) == 3
    assert list((tmp_path / "elsewhere").iterdir()) == []


def off_by_argument(monkeypatch):
    return {"enabled": False}


def off_by_environment(monkeypatch):
    monkeypatch.setenv("COCKPIT_DISABLE", "1")
    return {}


@pytest.mark.parametrize("turn_off", [off_by_argument, off_by_environment])
def test_turned_off_a_cockpit_does_nothing_at_all(turn_off, loop, tmp_path, monkeypatch, capsys):
    before = set(threading.enumerate())
    with Cockpit(loop.model, loop.optimizer, run=tmp_path / "run", track=1, **turn_off(monkeypatch)) as cockpit:
        for _ in range(3):
            with cockpit.step() as step:
                assert hooks(loop.model, loop.optimizer) == 0
                assert _get_current_function_mode_stack() == []
                loop.update()
                losses = torch.rand(8, requires_grad=True)
                assert torch.equal(step.losses(losses), losses.mean())
        cockpit.log({"valid/accuracy": 1.0})
        assert cockpit.overhead is None
        assert cockpit.run is None
    cockpit.close()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")
    assert [thread.name for thread in set(threading.enumerate()) - before if "cockpit" in thread.name] == []


@pytest.mark.parametrize("value", ["", "0", "false", "No"])
def test_the_environment_turns_it_off_only_if_it_says_so(value, begin, monkeypatch):
    monkeypatch.setenv("COCKPIT_DISABLE", value)
    assert begin().enabled
