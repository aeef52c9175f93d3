"""Arguments that cannot be used, and places that cannot be written, are refused in words."""

import argparse
import os
import warnings

import pytest
import torch
from loop import Loop, events, no_trace
from torch import nn

from cockpit import Cockpit, CockpitWarning, Instrument, load_run
from cockpit.instruments import NormTest
from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.store import Reader


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"instruments": "gradnorm"}, ValueError, "no instrument called 'gradnorm'; did you mean 'grad_norm'"),
        ({"instruments": "economy+NormTest"}, ValueError, "no instrument called 'NormTest'; did you mean 'norm_test'"),
        (
            {"instruments": ["loss", "xyz"]},
            ValueError,
            "no instrument called 'xyz'. There are: economy, business, full, ",
        ),
        ({"instruments": "economy+"}, ValueError, "no instrument called ''"),
        ({"instruments": []}, ValueError, "no instruments: name some, or use enabled=False. There are: economy"),
        ({"instruments": [NormTest(), NormTest()]}, ValueError, "'norm_test' is listed twice"),
        ({"instruments": None}, TypeError, "an instrument is a name, a class or an object, got None"),
        ({"instruments": [3]}, TypeError, "an instrument is a name, a class or an object, got 3"),
        ({"track": None}, TypeError, 'track must be "auto", a number of steps, .* got None'),
        (
            {"budget": 0},
            ValueError,
            "budget must be positive and finite, got 0: 0.1 lets .*; enabled=False reads nothing",
        ),
        (
            {"budget": float("inf")},
            ValueError,
            "budget must be positive and finite, got inf: .* track=1 reads every step",
        ),
        ({"budget": float("nan")}, ValueError, "budget must be positive and finite, got nan"),
        ({"budget": None}, TypeError, "budget must be a number, got None: 0.1 lets training be ten percent slower"),
        ({"budget": "10%"}, TypeError, "budget must be a number, got '10%'"),
        ({"budget": True}, TypeError, "budget must be a number, got True"),
        ({"track": 0}, ValueError, "the interval must be a whole number of steps, at least 1, got 0"),
        ({"track": True}, ValueError, "got True"),
        (
            {"track": 2.5},
            TypeError,
            r'track must be "auto", a number of steps, every\(…\), log_spaced\(…\) or a function',
        ),
        ({"config": argparse.Namespace(lr=1)}, TypeError, r"got Namespace; write config=vars\(args\)"),
        ({"config": 3}, TypeError, "config must be a mapping from names to values, got int$"),
        ({"tags": [1]}, TypeError, "tags are words, got 1"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_written(options, error, words, loop, tmp_path, begin):
    with pytest.raises(error, match=words):
        begin(loop, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda model: (model.parameters(), torch.optim.SGD(model.parameters())),
            "Cockpit watches a torch.nn.Module, got generator",
        ),
        (lambda model: ([model], None), "watches a torch.nn.Module, or parameters of one, got Sequential among"),
        (lambda model: (model, model), "optimizer must be a torch.optim.Optimizer or a list of them, got Sequential"),
        (lambda model: (model, None), "or a list of them, got NoneType"),
        (lambda model: (model, []), "optimizer is an empty list"),
        (lambda model: (nn.DataParallel(model), torch.optim.SGD(model.parameters())), "nn.DataParallel splits every"),
        (
            lambda model: (nn.Sequential(nn.DataParallel(model)), torch.optim.SGD(model.parameters())),
            "use DistributedDataParallel, or pass model.module",
        ),
    ],
)
def test_a_model_or_optimizer_of_another_kind_is_refused(make, words, loop, tmp_path):
    model, optimizer = make(loop.model)
    with pytest.raises(TypeError, match=words):
        Cockpit(model, optimizer, run=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


class Nameless(Instrument):
    def compute(self, steps):
        return 1.0


class Needy(Nameless):
    name = "needy"
    needs = PerSampleMoments


class Blind(Nameless):
    name = "blind"
    window = 0


@pytest.mark.parametrize(
    ("instrument", "error", "words"),
    [
        (Nameless, TypeError, "Nameless needs a class attribute 'name', the log key of its readings"),
        (Needy, TypeError, r"Needy.needs must be a tuple of probes, such as \(PerSampleMoments,\)"),
        (Blind, ValueError, "Blind.window counts the steps that compute sees, at least 1, got 0"),
    ],
)
def test_a_mistake_in_an_instruments_class_is_named(instrument, error, words, loop, begin):
    with pytest.raises(error, match=words):
        begin(loop, instruments=[instrument])


def test_a_model_without_trainable_parameters_is_refused(begin):
    frozen = nn.Linear(2, 2).requires_grad_(False)
    for model in (frozen, nn.ReLU()):
        with pytest.raises(ValueError, match=f"{type(model).__name__} has no trainable parameter"):
            begin(Loop(model=model))


def test_parameters_that_have_no_shape_yet_are_refused_with_what_to_do(tmp_path):
    model = nn.Sequential(nn.Linear(4, 3), nn.LazyLinear(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"1\.weight of Sequential has no shape .* call the model once"):
        Cockpit(model, optimizer, run=tmp_path / "run")
    model(torch.randn(5, 4))
    Cockpit(model, optimizer, run=tmp_path / "run").close()


def test_the_optimizer_of_another_model_is_refused(loop, tmp_path):
    with pytest.raises(ValueError, match="the optimizer holds none of the model's trainable parameters; was it built"):
        Cockpit(loop.model, Loop().optimizer, run=tmp_path / "run")


def test_a_parameter_that_no_optimizer_holds_is_named_and_left_out(loop, begin, tmp_path, capsys):
    loop.optimizer = torch.optim.SGD(loop.model[2].parameters(), lr=0.1)
    with pytest.warns(CockpitWarning, match=r"^no optimizer holds 0\.weight, 0\.bias: never updated, and left out"):
        cockpit = begin(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.steps(cockpit, 3)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert run["grad_norm"].layers.names == ("2.weight", "2.bias")
    assert not run["norm_test"].missing.any()
    assert "41 % of parameters" in capsys.readouterr().err  # 18 of 43
    coverage = Reader(tmp_path / "run").document("coverage")
    assert coverage["left_out"] == dict.fromkeys(("0.weight", "0.bias"), "no optimizer holds it")
    assert [event.text.startswith("no optimizer holds 0.weight") for event in events(tmp_path)] == [True]


def test_a_parameter_that_joins_later_is_named(loop, begin):
    loop.model[0].requires_grad_(False)
    loop.optimizer = torch.optim.SGD(loop.model.parameters(), lr=0.1)
    cockpit = begin(loop)
    loop.steps(cockpit, 2)
    loop.model[0].requires_grad_(True)
    with pytest.warns(CockpitWarning, match=r"0\.weight, 0\.bias joined the training after the cockpit began") as told:
        loop.steps(cockpit, 3)
    assert len(told) == 1


def test_a_file_in_the_way_is_named(loop, tmp_path):
    (tmp_path / "file").write_text("here first")
    with pytest.raises(OSError, match=r"file is a file; a run needs a directory"):
        Cockpit(loop.model, loop.optimizer, run=tmp_path / "file")
    with pytest.raises(OSError, match=r"cannot be made: Not a directory"):
        Cockpit(loop.model, loop.optimizer, run=tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "here first"
    no_trace(loop)


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="needs a file system that takes no files, such as /proc")
def test_a_place_that_takes_no_files_is_named(loop):
    with pytest.raises(OSError, match=r"the run's directory /proc/1?.*cannot be made: .* Choose another place"):
        Cockpit(loop.model, loop.optimizer, run="/proc/cockpit-run")
    loop.update()
