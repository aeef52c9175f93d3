"""What goes wrong is told in words, and neither training nor the log suffers."""

import argparse
import gc
import inspect
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loop import Loop, hooks
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from cockpit import Cockpit, CockpitWarning, Instrument, Reading, load_run
from cockpit.instruments import NormTest
from cockpit.probes.gradient_norms import GradientNorms
from cockpit.probes.movement import UpdateNorms
from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.probes.probe import Collector, Probe
from cockpit.store import Event, Reader

NEED_INDIVIDUAL = {"alpha", "grad_hist_1d", "inner_test", "norm_test", "ortho_test"}


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def begin(tmp_path):
    """``begin(loop, **options)`` makes a cockpit in ``tmp_path / "run"``; the test's end closes it."""
    made = []

    def cockpit(loop, **options):
        made.append(Cockpit(loop.model, loop.optimizer, **{"run": tmp_path / "run", "track": 1, **options}))
        return made[-1]

    yield cockpit
    for one in made:
        one.close()


def events(path: Path) -> list[Event]:
    return [event for event in Reader(path / "run").events() if event.kind in ("warning", "error")]


def no_trace(cockpit, loop) -> None:
    """Between steps nothing of the cockpit's is to be found."""
    assert hooks(loop.model, loop.optimizer) == 0
    assert _get_current_function_mode_stack() == []


# Arguments


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
        ({"track": 0}, ValueError, "the interval must be a whole number of steps, at least 1, got 0"),
        ({"track": True}, ValueError, "got True"),
        ({"track": 2.5}, TypeError, r"track must be a number of steps, every\(…\), log_spaced\(…\) or a function"),
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
        (lambda model: (model.parameters(), None), "Cockpit watches a torch.nn.Module, got generator"),
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


# Numbers


def test_a_batch_of_one_is_a_gap(loop, begin, tmp_path):
    cockpit = begin(loop)
    for N in (8, 8, 1, 8, 8):
        loop.steps(cockpit, 1, N=N)
    cockpit.close()
    run = load_run(tmp_path / "run")
    for key in ("norm_test", "inner_test", "ortho_test"):
        assert list(run[key].missing) == [False, False, True, False, False]
    assert list(run["alpha"].missing) == [False, True, True, False]
    assert not run["grad_norm"].missing.any()
    assert events(tmp_path) == []


@pytest.mark.parametrize("score", [float("nan"), float("-inf")])
def test_a_loss_that_is_not_finite_is_logged_as_it_is_and_training_stays_what_it_is(score, begin, tmp_path):
    loop, twin = Loop(), Loop()
    torch.manual_seed(1)
    with begin(loop) as cockpit:
        loop.steps(cockpit, 2)
        with cockpit.step():
            loop.backward(score=score)  # a careful user's optimizer does not step now
        loop.steps(cockpit, 2)
        loop.steps(cockpit, 1, score=score)
        loop.steps(cockpit, 1)
    torch.manual_seed(1)
    losses = []
    for step in range(7):
        losses.append(float(twin.backward(score=score if step in (2, 5) else 0.0).detach()))
        if step != 2:
            twin.optimizer.step()
    for mine, theirs in zip(loop.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine.view(torch.int32), theirs.view(torch.int32))
    run = load_run(tmp_path / "run")
    np.testing.assert_array_equal(run["loss"].values, losses)
    assert not run["loss"].missing.any()
    assert not np.isfinite(run["loss"].values[[2, 5]]).any()
    assert not run["norm_test"].missing[[0, 1, 3, 4]].any()


def test_a_first_loss_that_is_not_finite_does_not_spoil_the_others(loop, begin, tmp_path):
    cockpit = begin(loop)
    with cockpit.step():
        loop.backward(score=float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CockpitWarning)
        loop.steps(cockpit, 4)
    cockpit.close()
    assert list(load_run(tmp_path / "run")["norm_test"].missing[1:]) == [False] * 4


def test_a_loss_of_weight_zero_is_a_gap_that_is_explained(loop, begin, tmp_path):
    cockpit = begin(loop)
    with pytest.warns(CockpitWarning, match="the gradient that arrives at the loss is zero"):
        loop.steps(cockpit, 2, weight=0.0)
    loop.steps(cockpit, 2)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["norm_test"].missing) == [True, True, False, False]
    assert not run["loss"].missing[2:].any()


# Losses


def test_a_loss_that_needs_no_gradient_fails_as_it_would_without_a_cockpit(loop, begin, tmp_path):
    cockpit = begin(loop)
    with pytest.raises(RuntimeError, match="does not require grad"), cockpit.step(), torch.no_grad():
        F.cross_entropy(loop.model(torch.randn(8, 4)), torch.randint(3, (8,))).backward()
    no_trace(cockpit, loop)
    loop.steps(cockpit, 2)
    cockpit.close()
    assert list(load_run(tmp_path / "run")["loss"].steps) == [0, 1]


def own_loss(loop):
    loop.optimizer.zero_grad()
    loss = (loop.model(torch.randn(8, 4)) ** 2).mean()
    loss.backward()
    loop.optimizer.step()
    return loss.detach()


def test_a_loss_that_was_not_seen_leaves_what_needs_no_individual_losses(loop, begin, tmp_path):
    cockpit = begin(loop)
    losses = []
    with pytest.warns(CockpitWarning) as told:  # noqa: PT031 - the step is what warns, and it is a block
        for _ in range(4):
            with cockpit.step():
                losses.append(own_loss(loop))
    cockpit.close()
    (warning,) = told
    words = f"step 0 gives no reading of {', '.join(sorted(NEED_INDIVIDUAL))}: no loss of torch.nn or"
    assert str(warning.message).startswith(words)
    assert "step.losses" in str(warning.message)
    assert warning.filename == __file__
    run = load_run(tmp_path / "run")
    np.testing.assert_array_equal(run["loss"].values, torch.stack(losses).double().numpy())
    assert (run["grad_norm"].values > 0).all()
    for key in NEED_INDIVIDUAL:
        assert run[key].missing.all()
    said = events(tmp_path)
    assert {event.subject for event in said} == NEED_INDIVIDUAL
    assert len(said) == len(NEED_INDIVIDUAL)
    assert {(event.step, event.kind) for event in said} == {(0, "warning")}


def test_losses_that_are_handed_over_serve_every_instrument(loop, begin, tmp_path):
    cockpit = begin(loop)
    for _ in range(3):
        with cockpit.step() as step:
            loop.optimizer.zero_grad()
            step.losses((loop.model(torch.randn(8, 4)) ** 2).mean(1)).backward()
            loop.optimizer.step()
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert not any(run[key].missing.any() for key in NEED_INDIVIDUAL)
    assert events(tmp_path) == []


@pytest.mark.parametrize("track", [1, 2])
@pytest.mark.parametrize(
    ("losses", "error", "words"),
    [
        (
            torch.ones(3, 2),
            ValueError,
            r"one loss per sample, shape \[N\], got shape \[3, 2\]: leave out the reduction",
        ),
        (torch.tensor(1.0), ValueError, r"got shape \[\]"),
        ([1.0, 2.0], TypeError, "a tensor with one loss per sample, got list"),
    ],
)
def test_losses_of_another_shape_are_refused_on_every_step(losses, error, words, track, loop, begin):
    cockpit = begin(loop, track=track)
    loop.steps(cockpit, 1)
    with pytest.raises(error, match=words), cockpit.step() as step:
        step.losses(losses)
    no_trace(cockpit, loop)


def test_a_step_without_a_backward_pass_says_so_once(loop, begin, tmp_path):
    cockpit = begin(loop)
    with pytest.warns(CockpitWarning, match="no backward pass was seen") as told:  # noqa: PT031
        for _ in range(3):
            with cockpit.step():
                loop.model(torch.randn(8, 4))
    loop.steps(cockpit, 1)
    cockpit.close()
    assert len(told) == 1
    assert list(load_run(tmp_path / "run")["loss"].missing) == [True, True, True, False]


def test_a_penalty_in_the_loss_withholds_a_parameter_and_says_so_once_although_its_size_changes(loop, begin, tmp_path):
    cockpit = begin(loop, instruments="norm_test+grad_norm")
    with pytest.warns(CockpitWarning, match="such as a penalty on the weights") as told:  # noqa: PT031
        for step in range(6):
            with cockpit.step():
                loop.optimizer.zero_grad()
                loss = F.cross_entropy(loop.model(torch.randn(8, 4)), torch.randint(3, (8,)))
                (loss + (1 + step) * sum(p.square().sum() for p in loop.model.parameters())).backward()
                loop.optimizer.step()
    cockpit.close()
    assert len(told) == 1
    assert load_run(tmp_path / "run")["norm_test"].missing.all()


# Steps


def test_a_step_within_a_step_is_refused_and_the_next_one_works(loop, begin, tmp_path):
    cockpit = begin(loop)
    loop.steps(cockpit, 1)
    words = "step 1 is still open: a step is one optimizer update, and steps do not nest"
    with pytest.raises(RuntimeError, match=words), cockpit.step(), cockpit.step():
        raise AssertionError("the inner block is not entered")
    no_trace(cockpit, loop)
    loop.steps(cockpit, 2)
    cockpit.close()
    assert list(load_run(tmp_path / "run")["loss"].steps) == [0, 1, 2]


class Interruption(BaseException):
    """Neither an Exception nor known to anybody."""


def before_the_forward_pass(loop):
    raise ZeroDivisionError("the user's own")


def between_the_passes(loop):
    F.cross_entropy(loop.model(torch.randn(8, 4)), torch.randint(3, (8,)))
    raise KeyboardInterrupt


def in_the_forward_pass(loop):
    loop.model(torch.randn(8, 5))


def in_the_backward_pass(loop):
    hidden = loop.model[0](torch.randn(8, 4))

    def hook(gradient):
        raise Interruption

    hidden.register_hook(hook)
    F.cross_entropy(loop.model[2](hidden.tanh()), torch.randint(3, (8,))).backward()


def after_the_optimizer(loop):
    loop.update()
    raise StopIteration


@pytest.mark.parametrize("track", [1, 3])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (before_the_forward_pass, ZeroDivisionError),
        (between_the_passes, KeyboardInterrupt),
        (in_the_forward_pass, RuntimeError),
        (in_the_backward_pass, Interruption),
        (after_the_optimizer, StopIteration),
    ],
)
def test_an_exception_in_the_users_code_passes_through_and_the_step_never_was(
    fault, error, track, loop, begin, tmp_path
):
    cockpit = begin(loop, track=track)
    loop.steps(cockpit, 3)
    with pytest.raises(error) as caught, cockpit.step():
        fault(loop)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    no_trace(cockpit, loop)
    loop.optimizer.zero_grad()
    loop.steps(cockpit, 3)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["loss"].steps) == [step for step in range(6) if step % track == 0]
    assert not run["loss"].missing.any()
    assert not run["norm_test"].missing.any()
    assert events(tmp_path) == []


def test_a_step_that_failed_holds_no_tensors_although_its_loss_is_kept(loop, begin):
    cockpit = begin(loop)
    losses = []

    def fails():
        losses.append(F.cross_entropy(loop.model(torch.randn(64, 4)), torch.randint(3, (64,))))
        losses[0].backward()
        raise MemoryError

    with pytest.raises(MemoryError), cockpit.step():
        fails()
    gc.collect()
    tensors = [found for found in gc.get_objects() if type(found) is torch.Tensor]
    assert [found.shape for found in tensors if found.dim() > 1 and found.shape[0] == 64] == []


# Failures of the cockpit's own


class Broken(Instrument):
    """Raises, at step 2 in another way."""

    name = "broken"
    needs = (GradientNorms,)

    def compute(self, steps):
        if steps[0].index == 2:
            raise KeyError("something else")
        raise RuntimeError(f"broken at step {steps[0].index}")


THIS = Path(__file__).name
BROKEN = inspect.getsourcelines(Broken.compute)[1] + 1


def test_an_instrument_that_raises_is_told_once_and_the_others_go_on(loop, begin, tmp_path):
    cockpit = begin(loop, instruments=["economy", Broken()])
    with pytest.warns(CockpitWarning) as told:
        loop.steps(cockpit, 4)
    cockpit.close()
    assert [str(warning.message) for warning in told] == [
        f"broken failed at step 0: RuntimeError: broken at step 0 ({THIS}, line {BROKEN + 2}); training goes on",
        f"broken failed at step 2: KeyError: 'something else' ({THIS}, line {BROKEN + 1}); training goes on",
    ]
    run = load_run(tmp_path / "run")
    assert run["broken"].missing.all()
    assert len(run["broken"].steps) == 4
    assert not any(run[key].missing.any() for key in ("loss", "norm_test", "alpha", "grad_norm"))
    said = [(event.step, event.kind, event.subject, event.text) for event in events(tmp_path)]
    assert said == [
        (0, "error", "broken", str(told[0].message).removesuffix("; training goes on")),
        (2, "error", "broken", str(told[1].message).removesuffix("; training goes on")),
    ]


class BrokenProbe(Probe[float]):
    """Fails at a point of one's choice."""

    def __init__(self, where):
        object.__setattr__(self, "where", where)

    def __hash__(self):
        return hash(self.where)

    def collector(self, surroundings):
        if self.where == "collector":
            raise RuntimeError("no collector")
        return BrokenCollector(self.where)


class BrokenCollector(Collector[float]):
    def __init__(self, where):
        self.where = where

    def _fail(self, where):
        if self.where == where:
            raise RuntimeError(f"no {where}")

    def gradient(self, index, gradient, backward):
        self._fail("gradient")

    def end_pass(self, backward):
        self._fail("end_pass")

    def result(self):
        self._fail("result")
        return 1.0


@pytest.mark.parametrize("where", ["collector", "gradient", "end_pass", "result"])
def test_a_probe_that_raises_takes_only_its_own_instrument_along(where, loop, begin, tmp_path):
    class Reads(Instrument):
        name = "reads"
        needs = (BrokenProbe(where),)

        def compute(self, steps):
            return steps[0][self.needs[0]]

    cockpit = begin(loop, instruments=["economy", Reads()])
    with pytest.warns(CockpitWarning) as told:
        loop.steps(cockpit, 3)
    cockpit.close()
    words = f"step 0 gives no reading of reads: BrokenProbe failed: RuntimeError: no {where}"
    assert [str(warning.message) for warning in told] == [words]
    run = load_run(tmp_path / "run")
    assert run["reads"].missing.all()
    assert not any(run[key].missing.any() for key in ("loss", "norm_test", "alpha", "grad_norm"))
    assert [(event.kind, event.subject) for event in events(tmp_path)] == [("warning", "reads")]


def test_a_schedule_that_raises_is_told_once_and_reads_nothing(loop, begin, tmp_path):
    cockpit = begin(loop, instruments=["loss", NormTest(track=lambda step: 1 / 0)])
    with pytest.warns(
        CockpitWarning, match="the schedule of norm_test failed at step 0: ZeroDivisionError: division by zero"
    ) as told:
        loop.steps(cockpit, 3)
    cockpit.close()
    assert len(told) == 1
    assert load_run(tmp_path / "run").keys()[:1] == ["loss"]
    assert "norm_test" not in load_run(tmp_path / "run")


def test_a_parameter_that_changes_its_shape_stops_the_readings_and_not_the_training(loop, begin, tmp_path):
    cockpit = begin(loop)
    loop.steps(cockpit, 2)
    loop.model[0].weight.data, loop.model[0].bias.data = torch.randn(6, 4), torch.randn(6)
    loop.model[2].weight.data = torch.randn(3, 6)
    with pytest.warns(CockpitWarning, match="the capture failed at step 2: RuntimeError: .*; training goes on"):
        loop.steps(cockpit, 3)
    no_trace(cockpit, loop)
    loop.update()
    cockpit.close()
    assert load_run(tmp_path / "run").state == "finished"


@pytest.mark.parametrize("place", ["remember", "measure"])
def test_an_interruption_of_the_cockpits_own_work_leaves_no_trace(place, loop, begin, tmp_path):
    cockpit = begin(loop)
    loop.steps(cockpit, 2)
    original = getattr(cockpit._displacement, place)

    def interrupted():
        raise KeyboardInterrupt

    setattr(cockpit._displacement, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.steps(cockpit, 1)
    no_trace(cockpit, loop)
    setattr(cockpit._displacement, place, original)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.steps(cockpit, 2)
    cockpit.close()
    assert load_run(tmp_path / "run").state == "finished"


def test_where_warnings_are_errors_the_readings_are_logged_first(loop, begin, tmp_path):
    cockpit = begin(loop, instruments=["loss", Broken()])
    with pytest.raises(CockpitWarning, match="broken failed"):
        loop.steps(cockpit, 1)
    no_trace(cockpit, loop)
    loop.steps(cockpit, 1)
    cockpit.close()
    assert list(load_run(tmp_path / "run")["loss"].steps) == [0, 1]


def test_where_warnings_are_errors_a_refused_start_leaves_the_run_free(loop, tmp_path):
    loop.optimizer = torch.optim.SGD(loop.model[2].parameters(), lr=0.1)
    with pytest.raises(CockpitWarning, match="no optimizer holds"):
        Cockpit(loop.model, loop.optimizer, run=tmp_path / "run")
    assert load_run(tmp_path / "run").state == "crashed"


class Strange(Instrument):
    name = "strange"

    def compute(self, steps):
        return Reading(1.0, layers={"a": object()})


def test_a_reading_that_cannot_be_stored_is_an_event_and_the_others_are_stored(loop, begin, tmp_path):
    cockpit = begin(loop, instruments=["loss", Strange()])
    loop.steps(cockpit, 2)
    cockpit.close()
    assert list(load_run(tmp_path / "run")["loss"].steps) == [0, 1]
    assert [(event.kind, event.subject) for event in events(tmp_path)] == [("error", "strange")]


def test_an_instrument_may_be_missing_its_super_call(loop, begin, tmp_path):
    class Careless(Instrument):
        name = "careless"
        needs = (UpdateNorms,)

        def __init__(self, factor):
            self.factor = factor

        def compute(self, steps):
            return self.factor * steps[0][UpdateNorms].total()

    cockpit = begin(loop, instruments=[Careless(2.0), "update_size"])
    loop.steps(cockpit, 2)
    cockpit.close()
    run = load_run(tmp_path / "run")
    np.testing.assert_allclose(run["careless"].values, 2 * run["update_size"].values)


# Places that cannot be written


def test_a_file_in_the_way_is_named(loop, tmp_path):
    (tmp_path / "file").write_text("here first")
    with pytest.raises(OSError, match=r"file is a file; a run needs a directory"):
        Cockpit(loop.model, loop.optimizer, run=tmp_path / "file")
    with pytest.raises(OSError, match=r"cannot be made: Not a directory"):
        Cockpit(loop.model, loop.optimizer, run=tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "here first"
    no_trace(None, loop)


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="needs a file system that takes no files, such as /proc")
def test_a_place_that_takes_no_files_is_named(loop):
    with pytest.raises(OSError, match=r"the run's directory /proc/1?.*cannot be made: .* Choose another place"):
        Cockpit(loop.model, loop.optimizer, run="/proc/cockpit-run")
    loop.update()
