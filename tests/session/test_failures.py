"""What raises in the cockpit's own work, or in instruments, is told once; training goes on."""

import inspect
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from loop import events, no_trace

from cockpit import Cockpit, CockpitWarning, Instrument, Reading, load_run
from cockpit.instruments import NormTest
from cockpit.probes.gradient_norms import GradientNorms
from cockpit.probes.movement import UpdateNorms
from cockpit.probes.probe import Collector, Probe


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
    no_trace(loop)
    loop.update()
    cockpit.close()
    assert load_run(tmp_path / "run").state == "finished"


@pytest.mark.parametrize("place", ["remember", "measure"])
def test_an_interruption_of_the_cockpits_own_work_leaves_no_trace(place, loop, begin, tmp_path):
    cockpit = begin(loop)
    loop.steps(cockpit, 2)
    original = getattr(cockpit._tracker.watched.displacement, place)

    def interrupted():
        raise KeyboardInterrupt

    setattr(cockpit._tracker.watched.displacement, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.steps(cockpit, 1)
    no_trace(loop)
    setattr(cockpit._tracker.watched.displacement, place, original)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.steps(cockpit, 2)
    cockpit.close()
    assert load_run(tmp_path / "run").state == "finished"


def test_where_warnings_are_errors_the_readings_are_logged_first(loop, begin, tmp_path):
    cockpit = begin(loop, instruments=["loss", Broken()])
    with pytest.raises(CockpitWarning, match="broken failed"):
        loop.steps(cockpit, 1)
    no_trace(loop)
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
