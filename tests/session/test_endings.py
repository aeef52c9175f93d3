"""How a run ends, and what it leaves behind: a log, and models without a trace of it."""

import copy
import gc
import io
import weakref

import pytest
import torch
import torch.nn.functional as F
from loop import hooks, open_steps
from torch.overrides import _get_current_function_mode_stack

from cockpit import Cockpit, list_runs, load_run


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
    assert open_steps(loop) == 0
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
