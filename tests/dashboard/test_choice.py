"""What a page asks for, whatever it sends."""

import pytest

from cockpit.dashboard.page import Choice, choose_run
from cockpit.dashboard.scene import Manner
from cockpit.store import RunSummary


@pytest.mark.parametrize(
    "data",
    [None, 3, "x", [], {"run": 3}, {"step": "x"}, {"step": 1e400}, {"step": True}, {"zoom": {"a": 1}}, {"zoom": [1]},
     {"zoom": {"a": [float("nan"), 1]}}, {"zoom": {"a": ["x", 1]}}, {"log": [1]}],
)  # fmt: skip
def test_whatever_the_browser_sends_is_a_choice(data):
    choice = Choice.from_page(data)
    assert (choice.run, choice.view, choice.step, choice.scheme) == (None, None, None, "light")
    assert choice.zoom == {}


def test_a_running_run_is_shown_before_newer_finished_ones():
    runs = [RunSummary("old", "running", 1.0), RunSummary("new", "finished", 2.0), RunSummary("bad", "unreadable", 3.0)]
    assert choose_run(runs) == "old"
    assert choose_run(runs[1:]) == "new"
    assert choose_run(runs[2:]) is None


@pytest.mark.parametrize(
    "data", [{"x": "hour"}, {"x": 3}, {"smooth": 1.0}, {"smooth": -1}, {"smooth": "x"}, {"smooth": float("nan")}]
)
def test_an_unknown_manner_is_the_usual_one(data):
    assert Choice.from_page(data).manner == Manner()
