"""Which instruments are read, at which steps, and what a run tells beside them."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loop import ECONOMY, hooks
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from cockpit import Cockpit, Instrument, every, list_runs, load_run, log_spaced
from cockpit.instruments import Alpha, GradNorm, Loss, NormTest


def names(run: Path) -> set[str]:
    return set(load_run(run).header.instruments)


class Own(Instrument):
    """Steps counted from one."""

    name = "own"

    def compute(self, steps):
        return steps[0].index + 1


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("economy", ECONOMY),
        ("loss", {"loss"}),
        ("loss + alpha", {"loss", "alpha"}),
        (["loss", NormTest], {"loss", "norm_test"}),
        (["loss+alpha", NormTest()], {"loss", "alpha", "norm_test"}),
        (GradNorm(), {"grad_norm"}),
        (Own, {"own"}),
        (("economy", Own()), ECONOMY | {"own"}),
        (iter(["loss"]), {"loss"}),
    ],
)
def test_instruments_are_named_or_handed_over(wanted, expected, begin, loop, tmp_path):
    cockpit = begin(instruments=wanted)
    loop.steps(cockpit, 2)
    cockpit.close()
    assert names(tmp_path / "run") == expected
    assert expected <= set(load_run(tmp_path / "run").keys())


def test_an_object_stands_for_the_instrument_of_its_name(begin, loop, tmp_path):
    cockpit = begin(instruments=["economy", Loss(track=2)])
    loop.steps(cockpit, 4)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["loss"].steps) == [0, 2]
    assert list(run["grad_norm"].steps) == [0, 1, 2, 3]


def test_every_tenth_step_is_read_and_the_next_for_alpha(begin, loop, tmp_path):
    cockpit = begin(track=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.steps(cockpit, 22)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert {key: list(run[key].steps) for key in ECONOMY} == {key: [0, 10, 20] for key in ECONOMY}
    assert not run["alpha"].missing.any()


def test_by_default_all_is_read_at_first_and_then_as_often_as_the_budget_allows(loop, tmp_path):
    with Cockpit(loop.model, loop.optimizer, run=tmp_path / "run") as cockpit:
        loop.steps(cockpit, 300)
    run = load_run(tmp_path / "run")
    assert {run[key].steps[0] for key in ECONOMY} == {0}
    assert len(run["loss"].steps) < 150
    assert {settings["interval"] for settings in run.header.instruments.values()} == {"as often as the budget allows"}


def test_the_intervals_in_force_are_logged_with_what_they_cost(loop, tmp_path):
    with Cockpit(loop.model, loop.optimizer, run=tmp_path / "run", budget=0.5) as cockpit:
        loop.steps(cockpit, 300)
    run = load_run(tmp_path / "run")
    intervals, costs = run["cockpit.interval"], run["cockpit.cost"]
    assert set(intervals.layers.names) == set(costs.layers.names) == ECONOMY
    assert (intervals.values >= 1).all()
    assert (intervals.layers.values.min(1) == intervals.values).all()
    assert (costs.layers.values >= 0).all()
    assert (np.diff(intervals.layers.values, axis=0) != 0).any(axis=1).all()  # told only where it changes


def test_a_schedule_of_its_own_wins_over_the_budget(loop, tmp_path):
    instruments = [NormTest(), Loss(track=7)]
    with Cockpit(loop.model, loop.optimizer, instruments=instruments, run=tmp_path / "run") as cockpit:
        loop.steps(cockpit, 30)
    run = load_run(tmp_path / "run")
    assert list(run["loss"].steps) == [0, 7, 14, 21, 28]
    assert run["cockpit.interval"].layers.names == ("norm_test",)


def test_the_budget_may_space_one_instrument_of_a_fixed_schedule(begin, loop, tmp_path):
    cockpit = begin(instruments=["loss", NormTest(track="auto")], track=3)
    loop.steps(cockpit, 30)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["loss"].steps) == list(range(0, 30, 3))
    assert run.header.instruments["norm_test"]["interval"] == "as often as the budget allows"
    assert run["cockpit.interval"].layers.names == ("norm_test",)


@pytest.mark.parametrize(
    ("track", "steps", "words"),
    [
        (3, [0, 3, 6], "every 3rd step"),
        (np.int64(4), [0, 4], "every 4th step"),
        (every(5), [0, 5], "every 5th step"),
        (log_spaced(7, points=4), [0, 1, 2, 4, 7], "5 log-spaced steps up to 7"),
        (lambda step: step in (2, 3), [2, 3], "steps chosen by a function"),
        (lambda step: step >= 6, [6, 7], "steps chosen by a function"),
    ],
)
def test_track_says_which_steps_are_read(track, steps, words, begin, loop, tmp_path, capsys):
    cockpit = begin(track=track, instruments="loss+grad_norm")
    loop.steps(cockpit, 8)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["loss"].steps) == steps
    assert run.header.instruments["loss"] == {"interval": words}
    assert f"cockpit: loss+grad_norm: 2 instruments, {words} -> {tmp_path / 'run'}\n" == capsys.readouterr().err


def test_a_schedule_is_asked_once_a_step(begin, loop):
    asked = []
    cockpit = begin(track=lambda step: asked.append(step))
    loop.steps(cockpit, 5)
    assert asked == [0, 1, 2, 3, 4]


def test_alpha_can_have_a_schedule_of_its_own(begin, loop, tmp_path):
    cockpit = begin(instruments=["loss", Alpha(track=4)], track=3)
    loop.steps(cockpit, 9)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["alpha"].steps) == [0, 4]
    assert list(run["loss"].steps) == [0, 3, 6]


def test_the_start_is_told_in_one_line(begin, loop, tmp_path, capsys):
    cockpit = begin()
    assert capsys.readouterr().err == ""
    loop.steps(cockpit, 5)
    words = f"cockpit: economy: {len(ECONOMY)} instruments, every step, 100 % of parameters -> {tmp_path / 'run'}\n"
    assert capsys.readouterr().err == words


def test_the_budget_tells_what_is_on_and_then_what_it_costs_as_measured(loop, tmp_path, capsys):
    with Cockpit(loop.model, loop.optimizer, run=tmp_path / "run", budget=2.0) as cockpit:
        told, turns = "", 0
        while told.count("\n") < 2 and turns < 400:
            loop.steps(cockpit, 50)
            told += capsys.readouterr().err
            turns += 1
    first, second = (told + capsys.readouterr().err).splitlines()
    said = f"cockpit: economy: {len(ECONOMY)} instruments, "
    assert first == f"{said}as often as the budget allows, 100 % of parameters -> {tmp_path / 'run'}"
    assert re.fullmatch(rf"{said}\+\d+ %, every .*step.*, 100 % of parameters", second)


def test_untracked_steps_meet_no_hooks_at_all(begin, loop):
    cockpit = begin(track=2, instruments="loss+norm_test")
    with cockpit.step():
        assert hooks(loop.model, loop.optimizer) > 0
        loop.update()
    assert hooks(loop.model, loop.optimizer) == 0
    with cockpit.step():
        assert hooks(loop.model, loop.optimizer) == 0
        assert _get_current_function_mode_stack() == []
        loop.update()


def test_the_loss_function_may_be_handed_over_or_not(loop, tmp_path):
    loss_fn = nn.CrossEntropyLoss()
    for index, given in enumerate(((), (loss_fn,), (F.cross_entropy,))):
        with Cockpit(loop.model, loop.optimizer, *given, run=tmp_path / str(index), track=1) as cockpit:
            loop.steps(cockpit, 2)
        assert not load_run(tmp_path / str(index))["norm_test"].missing.any()


def test_configuration_and_tags_are_kept_with_the_run(begin, tmp_path):
    begin(config={"lr": 0.1, "sizes": [1, 2], "when": Path("x")}, tags=["baseline", "digits"]).close()
    run = load_run(tmp_path / "run")
    assert run.config["lr"] == 0.1
    assert run.config["sizes"] == [1, 2]
    assert run.tags == ("baseline", "digits")
    assert list_runs(tmp_path)[0].tags == ("baseline", "digits")


def test_a_single_word_is_one_tag(begin, tmp_path):
    begin(tags="baseline").close()
    assert load_run(tmp_path / "run").tags == ("baseline",)


def test_the_header_describes_model_optimizer_and_instruments(begin, loop, tmp_path):
    begin(instruments="loss").close()
    header = load_run(tmp_path / "run").header
    assert [entry["name"] for entry in header.model["parameters"]] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert header.model["parameters"][0] == {
        "name": "0.weight", "shape": [5, 4], "numel": 20, "module": "0", "type": "Linear"
    }  # fmt: skip
    assert header.optimizer[0]["class"] == "SGD"
    assert header.optimizer[0]["groups"][0]["lr"] == 0.1
    assert header.environment["torch"] == torch.__version__
    assert set(header.panels) == {"performance", "hyperparameters", "loss_curves", "overhead"}


def test_scalars_are_logged_under_the_latest_step(begin, loop, tmp_path):
    cockpit = begin(instruments="loss")
    cockpit.log({"before": 1})
    for _ in range(3):
        with cockpit.step():
            loss = loop.update()
            cockpit.log({"inside": loss})
        cockpit.log({"after": loss})
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["before"].steps) == [0]
    assert list(run["inside"].steps) == [0, 1, 2]
    assert list(run["after"].steps) == [0, 1, 2]
    np.testing.assert_array_equal(run["after"].values, run["loss"].values)


def test_anything_that_is_a_number_can_be_logged(begin, tmp_path):
    cockpit = begin()
    values = {
        "int": 3,
        "bool": True,
        "tensor": torch.tensor(0.5, requires_grad=True),
        "element": torch.tensor([[0.25]], dtype=torch.bfloat16),
        "numpy": np.float32(0.125),
        "array": np.array([2.0]),
        "nan": float("nan"),
        "infinite": torch.tensor(float("-inf")),
        "undefined": None,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cockpit.log(values)
    cockpit.close()
    run = load_run(tmp_path / "run")
    logged = {key: run[key].values[0] for key in values}
    assert [logged[key] for key in ("int", "bool", "tensor", "element", "numpy", "array")] == [
        3,
        1,
        0.5,
        0.25,
        0.125,
        2,
    ]
    assert np.isnan(logged["nan"])
    assert not run["nan"].missing[0]
    assert logged["infinite"] == -np.inf
    assert run["undefined"].missing[0]


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"a": "0.5"}, TypeError, "cockpit.log takes numbers, but 'a' is str: '0.5'"),
        ({"a": [1.0]}, TypeError, "cockpit.log takes numbers, but 'a' is list"),
        ({"a": 1j}, TypeError, "'a' is complex"),
        ({"a": torch.ones(3)}, TypeError, r"cockpit.log takes single numbers, but 'a' has shape \[3\]"),
        ({"a": np.zeros((2, 1))}, TypeError, r"'a' has shape \[2, 1\]"),
        ({1: 0.5}, TypeError, "takes values by name, but 1 is no name"),
        (0.5, TypeError, "cockpit.log takes a mapping, .*, got float"),
        ({"fine": 1.0, "loss": 0.5}, ValueError, "'loss' is a log key of the cockpit's own; choose .* 'train/loss'"),
        ({"learning_rate": 0.5}, ValueError, "'learning_rate' is a log key of the cockpit's own"),
    ],
)
def test_what_cannot_be_logged_is_refused_as_a_whole(values, error, words, begin, loop, tmp_path):
    cockpit = begin()
    with pytest.raises(error, match=words):
        cockpit.log(values)
    loop.steps(cockpit, 2)
    cockpit.close()
    assert not {"a", "fine", "user/loss"} & set(load_run(tmp_path / "run").keys())
