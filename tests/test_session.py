"""What the cockpit does for somebody who uses it as intended."""

import copy
import gc
import io
import re
import sys
import threading
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loop import Loop, hooks
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from cockpit import Cockpit, CockpitWarning, Instrument, every, list_runs, load_run, log_spaced
from cockpit.instruments import Alpha, GradNorm, Loss, NormTest
from cockpit.open_step import OpenStep
from cockpit.store import Reader, RunIsLive

ECONOMY = {
    *("alpha", "distance", "grad_hist_1d", "grad_norm", "inner_test", "loss", "norm_test", "ortho_test", "time"),
    "update_size",
}


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def begin(tmp_path, loop):
    """``begin(**options)`` makes a cockpit on ``loop`` in ``tmp_path / "run"``; the test's end closes it."""
    made = []

    def cockpit(**options):
        made.append(Cockpit(loop.model, loop.optimizer, **{"run": tmp_path / "run", "track": 1, **options}))
        return made[-1]

    yield cockpit
    for one in made:
        one.close()


# Where the log goes


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


def test_the_distance_of_a_resumed_run_is_missing_because_its_start_is_not_known(begin, loop, tmp_path):
    first = begin(instruments="distance")
    loop.steps(first, 3)
    first.close()
    second = begin(instruments="distance", resume=True)
    with pytest.warns(CockpitWarning, match="no reading of distance: the run was resumed"):
        loop.steps(second, 2)
    second.close()
    assert list(load_run(tmp_path / "run")["distance"].missing) == [False, False, False, True, True]


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


# Turned off


def off_by_argument(monkeypatch):
    return {"enabled": False}


def off_by_environment(monkeypatch):
    monkeypatch.setenv("COCKPIT_DISABLE", "1")
    return {}


def off_on_another_rank(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    return {}


@pytest.mark.parametrize("turn_off", [off_by_argument, off_by_environment, off_on_another_rank])
def test_turned_off_a_cockpit_does_nothing_at_all(turn_off, loop, tmp_path, monkeypatch, capsys):
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
    assert [thread.name for thread in threading.enumerate() if "cockpit" in thread.name] == []


@pytest.mark.parametrize("value", ["", "0", "false", "No"])
def test_the_environment_turns_it_off_only_if_it_says_so(value, begin, monkeypatch):
    monkeypatch.setenv("COCKPIT_DISABLE", value)
    monkeypatch.setenv("RANK", "0")
    assert begin().enabled


# What is read, and when


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


def test_by_default_every_tenth_step_is_read_and_the_next_for_alpha(begin, loop, tmp_path):
    cockpit = begin(track=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.steps(cockpit, 22)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert {key: list(run[key].steps) for key in ECONOMY} == {key: [0, 10, 20] for key in ECONOMY}
    assert not run["alpha"].missing.any()


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
    assert f"cockpit: 2 instruments, {words} -> {tmp_path / 'run'}\n" == capsys.readouterr().err


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
    words = f"cockpit: 10 instruments, every step, 100 % of parameters -> {tmp_path / 'run'}\n"
    assert capsys.readouterr().err == words


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
    assert set(header.panels) == {"performance", "hyperparameters", "overhead"}


# Several optimizers, and optimizers that step elsewhere


class Pair(nn.Module):
    """A generator and a discriminator, as in adversarial training."""

    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, z):
        return self.discriminator(self.generator(z)).squeeze(1)


def test_a_learning_rate_that_is_no_number_is_left_out(begin, loop, tmp_path):
    loop.optimizer.param_groups[0]["lr"] = torch.tensor(0.5)
    loop.optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": "as before"})
    loop.optimizer.param_groups[1]["params"] = []
    cockpit = begin(instruments="loss")
    loop.steps(cockpit, 2)
    cockpit.close()
    assert list(load_run(tmp_path / "run")["learning_rate"].values) == [0.5, 0.5]


def test_two_optimizers_are_watched_together(tmp_path):
    torch.manual_seed(0)
    model = Pair()
    first = torch.optim.SGD(model.generator.parameters(), lr=0.1)
    second = torch.optim.Adam(model.discriminator.parameters(), lr=0.01)
    start = [p.detach().clone() for p in model.parameters()]
    with Cockpit(model, [first, second], run=tmp_path / "run", track=1) as cockpit:
        for _ in range(3):
            with cockpit.step():
                model.zero_grad()
                F.binary_cross_entropy_with_logits(model(torch.randn(8, 2)), torch.ones(8)).backward()
                first.step()
                second.step()
    run = load_run(tmp_path / "run")
    assert run["learning_rate"].layers.names == ("group 0", "group 1")
    assert run["learning_rate"].layers.values.tolist() == [[0.1, 0.01]] * 3
    assert set(run["update_size"].layers.names) == {name for name, _ in model.named_parameters()}
    assert (run["update_size"].layers.values > 0).all()
    assert not run["alpha"].missing.any()
    assert [entry["class"] for entry in run.header.optimizer] == ["SGD", "Adam"]
    moved = torch.cat([(p - q).flatten() for p, q in zip(model.parameters(), start, strict=True)]).norm()
    assert run["distance"].values[2] < moved


def test_an_adversarial_step_of_two_backward_passes_goes_through(tmp_path):
    torch.manual_seed(0)
    model = Pair()
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model.discriminator, model.generator)]
    instruments = "loss+update_size+grad_norm"
    with (  # noqa: PT031 - the step is what warns, and it is a block
        pytest.warns(CockpitWarning, match="gradients were cleared or changed between two backward passes"),
        Cockpit(model, optimizers, run=tmp_path / "run", track=1, instruments=instruments) as cockpit,
    ):
        for _ in range(3):
            with cockpit.step():
                for optimizer, target in zip(optimizers, (0.0, 1.0), strict=True):
                    model.zero_grad()
                    scores = model(torch.randn(8, 2))
                    F.binary_cross_entropy_with_logits(scores, torch.full((8,), target)).backward()
                    optimizer.step()
    run = load_run(tmp_path / "run")
    assert run["loss"].missing.all()
    assert run["grad_norm"].missing.all()
    assert (run["update_size"].layers.values > 0).all()


@pytest.mark.parametrize("optimizers", [1, 2])
def test_an_optimizer_may_step_after_the_block(optimizers, tmp_path):
    readings = []
    for outside in (False, True):
        loop = Loop()
        parts = [loop.model[0].parameters(), loop.model[2].parameters()]
        several = [torch.optim.SGD(p, lr=0.1) for p in parts] if optimizers == 2 else [loop.optimizer]
        with Cockpit(loop.model, several, run=tmp_path / str(outside), track=1) as cockpit:
            for _ in range(5):
                with cockpit.step():
                    loop.backward()
                    if not outside:
                        for optimizer in several:
                            optimizer.step()
                if outside:
                    for optimizer in several:
                        optimizer.step()
                    loop.model(torch.ones(2, 4)).sum().backward()  # not the training's business
        assert hooks(loop.model, *several) == 0
        run = load_run(tmp_path / str(outside))
        readings.append({key: run[key].values for key in ("update_size", "distance", "alpha", "learning_rate")})
    for key, values in readings[0].items():
        np.testing.assert_array_equal(values, readings[1][key])
    assert len(readings[1]["update_size"]) == 5


def test_a_step_is_let_go_once_its_optimizer_has_stepped(begin, loop):
    cockpit = begin()
    for _ in range(2):
        with cockpit.step():
            loop.backward()
        assert open_steps() == 1
        loop.optimizer.step()
        assert open_steps() == 0
    loop.steps(cockpit, 1)
    assert open_steps() == 0


def open_steps() -> int:
    gc.collect()
    return sum(type(found) is OpenStep for found in gc.get_objects())


@pytest.mark.parametrize(("factor", "skipped"), [(1.0, False), (float("inf"), True)])
def test_a_step_that_a_gradient_scaler_skips_moves_nothing(factor, skipped, begin, loop, tmp_path):
    scaler = torch.amp.GradScaler("cpu")
    cockpit = begin(instruments="loss+update_size+grad_norm")
    for _ in range(2):
        with cockpit.step():
            loop.optimizer.zero_grad()
            loss = F.cross_entropy(loop.model(torch.randn(8, 4)), torch.randint(3, (8,)))
            scaler.scale(loss * factor).backward()
            scaler.step(loop.optimizer)
            scaler.update()
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert ((run["update_size"].values == 0) == skipped).all()
    assert len(run["update_size"].steps) == 2
    assert hooks(loop.model, loop.optimizer) == 0


def test_an_optimizer_may_have_other_hooks_that_come_after(begin, loop):
    cockpit = begin()
    called = []
    for _ in range(3):
        with cockpit.step():
            loop.backward()
        handle = loop.optimizer.register_step_post_hook(lambda *_: called.append(1))
        loop.optimizer.step()
        handle.remove()
    assert called == [1, 1, 1]


def test_the_last_step_is_read_even_if_its_optimizer_never_steps(begin, loop, tmp_path):
    cockpit = begin(instruments="loss+update_size")
    with cockpit.step():
        loop.backward()
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["update_size"].values) == [0.0]
    assert hooks(loop.model, loop.optimizer) == 0


def test_the_learning_rate_is_the_one_that_the_step_was_made_with(begin, loop, tmp_path):
    schedule = torch.optim.lr_scheduler.LambdaLR(loop.optimizer, lambda step: 0.5**step)
    cockpit = begin(instruments="loss")
    for _ in range(3):
        with cockpit.step():
            loop.update()
            schedule.step()
    cockpit.close()
    assert list(load_run(tmp_path / "run")["learning_rate"].values) == [0.1, 0.05, 0.025]


def test_evaluation_between_steps_is_invisible(tmp_path):
    readings = []
    for evaluate in (False, True):
        loop = Loop()
        with Cockpit(loop.model, loop.optimizer, run=tmp_path / str(evaluate), track=1) as cockpit:
            for _ in range(4):
                with cockpit.step():
                    loop.update()
                if evaluate:
                    state = torch.get_rng_state()
                    loop.model.eval()
                    F.cross_entropy(loop.model(torch.randn(5, 4)), torch.randint(3, (5,))).backward()
                    with torch.no_grad():
                        loop.model(torch.randn(3, 4))
                    loop.model.train()
                    torch.set_rng_state(state)
        run = load_run(tmp_path / str(evaluate))
        readings.append({key: run[key].values for key in ECONOMY - {"time"}})
    for key, values in readings[0].items():
        np.testing.assert_array_equal(values, readings[1][key])


# Scalars of the user's own


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


# The end


def test_closing_twice_is_closing_once(begin, tmp_path):
    cockpit = begin()
    cockpit.close()
    cockpit.close("crashed")
    assert load_run(tmp_path / "run").state == "finished"


def test_a_closed_cockpit_says_so(begin, tmp_path):
    cockpit = begin()
    cockpit.close()
    with (
        pytest.raises(RuntimeError, match=f"the cockpit of {tmp_path / 'run'} is closed; make a new one"),
        cockpit.step(),
    ):
        raise AssertionError("the block is not entered")
    with pytest.raises(RuntimeError, match="is closed"):
        cockpit.log({"a": 1.0})


@pytest.mark.parametrize("track", [1, 2])
def test_closing_within_a_step_leaves_no_trace_of_it(track, begin, loop, tmp_path):
    cockpit = begin(track=track, instruments="loss+update_size")
    loop.steps(cockpit, 2)
    with cockpit.step():
        loop.backward()
        cockpit.close()
    assert hooks(loop.model, loop.optimizer) == 0
    assert _get_current_function_mode_stack() == []
    run = load_run(tmp_path / "run")
    assert run.state == "finished"
    assert run["loss"].steps[-1] < 2


def test_an_unknown_end_is_refused_and_the_run_goes_on(begin, loop, tmp_path):
    cockpit = begin()
    with pytest.raises(ValueError, match="ends as one of finished, interrupted, crashed, not as 'done'"):
        cockpit.close("done")
    loop.steps(cockpit, 1)
    assert load_run(tmp_path / "run").state == "running"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "finished"),
        (KeyboardInterrupt(), "interrupted"),
        (ZeroDivisionError(), "crashed"),
        (SystemExit(0), "finished"),
        (SystemExit(), "finished"),
        (SystemExit("out of patience"), "crashed"),
    ],
)
def test_the_way_a_run_ends_is_kept(error, state, loop, tmp_path):
    def train():
        with Cockpit(loop.model, loop.optimizer, run=tmp_path / "run", track=1) as cockpit:
            loop.steps(cockpit, 2)
            if error is not None:
                raise error

    if error is None:
        train()
    else:
        with pytest.raises(type(error)) as caught:
            train()
        assert caught.value is error
    run = load_run(tmp_path / "run")
    assert run.state == state
    assert list(run["loss"].steps) == [0, 1]


def test_a_run_can_be_read_back_and_listed(begin, loop, tmp_path):
    cockpit = begin(tags=("t",))
    loop.steps(cockpit, 3)
    assert list_runs(tmp_path)[0].state == "running"
    cockpit.close()
    (summary,) = list_runs(tmp_path)
    run = load_run(tmp_path / summary.name)
    assert (summary.name, summary.state, summary.last_step) == ("run", "finished", 2)
    assert summary.last_loss == run["loss"].values[-1]
    assert run.at(1)["loss"] == run["loss"].values[1]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["rank0.db"]


def test_models_can_be_copied_and_saved_within_a_run(begin, loop):
    cockpit = begin()
    loop.steps(cockpit, 2)
    copied = copy.deepcopy(loop.model)
    saved = io.BytesIO()
    torch.save(loop.model, saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=False)
    for other in (copied, loaded):
        assert hooks(other) == 0
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), loop.model.parameters(), strict=True))
    for step in range(2):  # the copy is nobody's business
        F.cross_entropy(copied(torch.randn(4, 4)), torch.randint(3, (4,))).backward()
        loop.steps(cockpit, 1 + step)


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_models_can_be_copied_and_saved_within_a_step(moment, begin, loop, tmp_path):
    def copies():
        saved = io.BytesIO()
        torch.save(loop.model, saved)
        torch.save(loop.optimizer, io.BytesIO())
        copy.deepcopy(loop.optimizer)
        saved.seek(0)
        made.extend([copy.deepcopy(loop.model), copy.copy(loop.model), torch.load(saved, weights_only=False)])

    made = []
    cockpit = begin()
    with cockpit.step():
        for now in ("before", "between", "after"):
            if moment == now:
                copies()
            if now == "before":
                loss = F.cross_entropy(loop.model(torch.randn(8, 4)), torch.randint(3, (8,)))
            elif now == "between":
                loss.backward()
                loop.optimizer.step()
    assert hooks(loop.model, loop.optimizer) == 0
    for other in made:
        F.cross_entropy(other(torch.randn(4, 4)), torch.randint(3, (4,))).backward()
    with cockpit.step():
        loop.update()
        for other in made:
            other(torch.randn(4, 4))
    del loss  # its graph has hooks
    assert open_steps() == 0
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert not run["norm_test"].missing.any()
    assert not run["alpha"].missing.any()


def test_a_closed_cockpit_lets_go_of_the_model(loop, tmp_path):
    cockpit = Cockpit(loop.model, loop.optimizer, run=tmp_path / "run", track=1)
    loop.steps(cockpit, 3)
    cockpit.close()
    reference = weakref.ref(loop.model)
    del loop.model, loop.optimizer, cockpit
    gc.collect()
    assert reference() is None


def test_the_overhead_needs_steps_of_both_kinds(begin, loop):
    cockpit = begin(track=4, instruments="loss")
    loop.steps(cockpit, 3)
    assert cockpit.overhead is None
    loop.steps(cockpit, 6)
    assert cockpit.overhead >= 0
