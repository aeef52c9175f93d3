"""Runs that are resumed: their steps, and their distance from where they truly began."""

import copy

import numpy as np
import pytest
import torch

from cockpit import CockpitWarning, load_run
from cockpit.parameters import Displacement, ParameterTable
from cockpit.reading import Reading
from cockpit.store import Header, Reader
from cockpit.tracking import start as beginnings
from cockpit.tracking.places import open_log


def distance_from(model, start):
    pairs = zip(parameters_of(model), start, strict=True)
    return float(sum((p.double() - q.double()).square().sum() for p, q in pairs) ** 0.5)


def parameters_of(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("pieces", [1 << 18, 7])
def test_the_distance_of_a_resumed_run_is_that_from_its_true_start(pieces, begin, loop, tmp_path, monkeypatch):
    monkeypatch.setattr(beginnings, "_PIECE", pieces)
    start = parameters_of(loop.model)
    first = begin(instruments="distance", track=1)
    loop.steps(first, 3)
    first.close()
    second = begin(instruments="distance", track=1, resume=True)
    monkeypatch.setattr(beginnings, "_PIECE", 1000)  # a later version may cut otherwise
    here = distance_from(loop.model, start)
    loop.steps(second, 1)
    second.close()
    distance = load_run(tmp_path / "run")["distance"]
    assert not distance.missing.any()
    assert distance.values[3] == pytest.approx(here, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.complex128])
def test_parameters_of_any_precision_come_back_bit_for_bit(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(beginnings, "_PIECE", 5)
    model = torch.nn.ParameterDict({"a": torch.randn(3, 4).to(dtype), "b": torch.zeros(0, 2).to(dtype)})
    table = ParameterTable(model, [torch.optim.SGD(model.parameters(), lr=0.1)])
    starts = []
    for resume in (False, True):
        displacement = Displacement(table)
        log = open_log(tmp_path / "run", Header("run", 0.0), resume)
        beginnings.keep_or_recall(log, table, displacement)
        log.writer.put(0, 0.0, {"loss": Reading(0.0)})
        log.writer.close()
        starts.append(displacement.start)
        with torch.no_grad():
            model["a"].add_(1)
    for kept, recalled in zip(*starts, strict=True):
        assert torch.equal(kept, recalled)


def test_a_run_that_restarts_from_an_older_checkpoint_goes_on_there(begin, loop, tmp_path):
    first = begin(instruments="loss+distance", track=1)
    loop.steps(first, 6)
    checkpoint = copy.deepcopy(loop.model.state_dict())
    loop.steps(first, 6)
    first.close("crashed")
    loop.model.load_state_dict(checkpoint)
    second = begin(instruments="loss+distance", track=1, resume=6)
    loop.steps(second, 2)
    second.close()
    run = load_run(tmp_path / "run")
    assert list(run["loss"].steps) == list(range(8))
    assert len(Reader(tmp_path / "run").column("loss", attempt=1)) == 12
    assert not run["distance"].missing.any()


def test_the_distance_is_missing_where_the_start_was_not_kept(begin, loop, tmp_path):
    first = begin(instruments="loss")
    loop.steps(first, 3)
    first.close()
    second = begin(instruments="distance", resume=True, track=1)
    with pytest.warns(CockpitWarning, match="no reading of distance: the run was resumed, and the parameters it began"):
        loop.steps(second, 2)
    second.close()
    assert list(load_run(tmp_path / "run")["distance"].missing) == [True, True]


def test_a_start_that_is_too_large_to_be_kept_says_so(begin, loop, tmp_path, monkeypatch):
    monkeypatch.setattr(beginnings, "MOST", 100)
    first = begin(instruments="distance", track=1)
    loop.steps(first, 1)
    first.close()
    assert list(Reader(tmp_path / "run").pieces(beginnings.START)) == []
    second = begin(instruments="distance", resume=True, track=1)
    with pytest.warns(CockpitWarning, match="not in its log: of .* are kept"):
        loop.steps(second, 1)
    second.close()


@pytest.mark.parametrize("resume", ["yes", 1.5, None])
def test_what_is_neither_a_step_nor_an_answer_is_refused(resume, begin):
    with pytest.raises(TypeError, match="resume must be True, False or the step to go on at"):
        begin(resume=resume)


def test_a_step_before_the_first_is_refused(begin):
    with pytest.raises(ValueError, match="resume must be the step to go on at, 0 or more, got -1"):
        begin(resume=-1)


def test_to_resume_at_a_step_what_is_not_there_begins_it_at_that_step(begin, loop, tmp_path):
    cockpit = begin(resume=np.int64(40), instruments="distance", track=1)
    loop.steps(cockpit, 2)
    cockpit.close()
    distance = load_run(tmp_path / "run")["distance"]
    assert list(distance.steps) == [40, 41]
    assert not distance.missing.any()
