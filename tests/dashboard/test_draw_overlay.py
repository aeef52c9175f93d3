from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
from drawn import checked, curves, plain_array, scalars

from cockpit.dashboard.overlay import Curve, draw_overlay
from cockpit.dashboard.theme import DARK, LIGHT
from cockpit.drawing.timeline import Timeline
from cockpit.store import Event

STEPS = Timeline()


def curve(run, values, colour="#0060a8", x=None):
    column = scalars("loss", values)
    return Curve(run, colour, column, column.steps.astype(float) if x is None else np.array(x, dtype=float))


def drawn(*runs, across=STEPS, log=False, **settings):
    drawing = draw_overlay("loss", runs, across, LIGHT, log=log, **settings)
    checked(drawing.figure)
    return drawing


def test_no_run_and_no_point_make_an_empty_figure():
    assert drawn().figure["data"] == []
    assert drawn(log=True).figure["data"] == []


def test_each_run_has_its_colour_and_its_name_under_the_pointer():
    figure = drawn(curve("a", [3.0, 2.0], "#0060a8"), curve("b", [2.0, 1.0], "#b34700")).figure
    assert [(line["line"]["color"], line["hovertemplate"]) for line in curves(figure)] == [
        ("#0060a8", "a %{y:.4~g}<extra></extra>"),
        ("#b34700", "b %{y:.4~g}<extra></extra>"),
    ]


def test_each_run_has_its_dashes_and_readings_behind_their_average_have_none():
    random = np.random.default_rng(0)
    figure = drawn(replace(curve("a", random.normal(size=200)), dash="9px,4px")).figure
    assert [line["line"]["dash"] for line in curves(figure)] == ["solid", "9px,4px"]
    (line,) = curves(drawn(replace(curve("a", [3.0, 2.0]), dash="2px,3px")).figure)
    assert line["line"]["dash"] == "2px,3px"


def test_the_names_of_runs_are_no_markup():
    (line,) = curves(drawn(curve("<b>%{x}", [1.0, 2.0])).figure)
    assert line["name"] == "&lt;b&gt;%&#123;x}"


def test_a_missing_value_is_a_gap_and_counted():
    drawing = drawn(curve("a", [3.0, 2.0, None, 1.0, 0.5]))
    (line,) = curves(drawing.figure)
    np.testing.assert_array_equal(plain_array(line["y"]), [3.0, 2.0, nan, 1.0, 0.5])
    assert drawing.words == "a: 1 missing"


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_what_is_not_finite_is_a_cross_in_the_runs_colour(value):
    drawing = drawn(curve("a", [3.0, 2.0, value, value], "#b34700"))
    (cross,) = curves(drawing.figure, "markers")
    assert (plain_array(cross["x"]).tolist(), plain_array(cross["y"]).tolist()) == ([20], [3.0])
    assert cross["marker"]["color"] == "#b34700"
    assert drawing.words == "a: 2 not finite, from each cross on"


def test_one_reading_is_visible():
    (dot,) = curves(drawn(curve("a", [0.5])).figure, "markers")
    assert plain_array(dot["y"]).tolist() == [0.5]


def test_a_noisy_curve_is_a_ghost_behind_its_average():
    noise = np.random.default_rng(0).normal(size=100).tolist()
    ghost, average = curves(drawn(curve("a", noise)).figure)
    assert (ghost["opacity"], average["hoverinfo"]) == (0.35, "skip")
    assert np.ptp(plain_array(average["y"])) < np.ptp(plain_array(ghost["y"]))


def test_what_a_log_axis_cannot_show_is_counted_and_a_log_axis_that_could_show_nothing_is_none():
    drawing = drawn(curve("a", [1.0, 0.0, -1.0]), log=True)
    assert drawing.figure["layout"]["yaxis"]["type"] == "log"
    assert drawing.words == "a: 2 at or below 0, which a log axis cannot show"
    assert drawn(curve("a", [0.0, -1.0]), log=True).figure["layout"]["yaxis"]["type"] == "linear"


def test_what_cannot_be_shown_of_several_runs_is_said_once():
    drawing = drawn(curve("a", [1.0, 0.0, None]), curve("b", [1.0, 0.0, 0.0]), log=True)
    assert drawing.words == "a: 1, b: 2 at or below 0, which a log axis cannot show; a: 1 missing"


def test_the_parting_is_a_line_on_axes_of_steps_alone():
    for measure in ("step", "log"):
        (line,) = drawn(curve("a", [1.0, 2.0]), across=Timeline(measure), parting=7).figure["layout"]["shapes"]
        assert (line["x0"], line["x1"]) == (7, 7)
    for measure in ("samples", "wall", "relative"):
        assert drawn(curve("a", [1.0, 2.0]), across=Timeline(measure), parting=7).figure["layout"]["shapes"] == []


@pytest.mark.parametrize(
    ("measure", "kind", "name"),
    [
        ("step", "linear", "step"),
        ("log", "log", "step"),
        ("samples", "linear", "samples seen"),
        ("relative", "linear", "hours of training"),
        ("wall", "date", "1970-01-01, UTC"),
    ],
)
def test_every_axis_has_a_name(measure, kind, name):
    layout = drawn(curve("a", [1.0, 2.0]), across=Timeline(measure, longest=7 * 3600)).figure["layout"]
    assert (layout["xaxis"]["title"]["text"], layout["yaxis"]["title"]["text"]) == (name, "loss")
    assert layout["xaxis"]["type"] == kind


def test_readings_stand_where_they_are_placed_in_either_scheme():
    figure = draw_overlay("loss", [curve("a", [1.0, 2.0], x=[5.5, 7.0])], STEPS, DARK, log=False).figure
    assert plain_array(curves(figure)[0]["x"]).tolist() == [5.5, 7.0]
    assert figure["layout"]["paper_bgcolor"] == DARK.paper


def test_events_of_each_run_stand_below_in_its_colour_up_to_its_last_reading():
    column = scalars("loss", [3.0, 2.0])
    kinds = ("learning_rate", "evaluation", "warning")
    events = [Event(at, at, 0.0, kind, "<b>%{x}", "") for at, kind in zip((10, 5, 7), kinds, strict=True)]
    events.append(Event(9, 11, 0.0, "warning", "later", ""))
    figure = drawn(Curve("a", "#b34700", column, column.steps.astype(float), events)).figure
    ticks = [trace for trace in figure["data"] if trace.get("yaxis") == "y2"]
    assert [(trace["name"], plain_array(trace["x"]).tolist()) for trace in ticks] == [
        ("learning rate", [10]), ("evaluation", [5]), ("warning", [7]),
    ]  # fmt: skip
    assert {trace["marker"]["color"] for trace in ticks} == {"#b34700"}
    assert ticks[2]["text"] == ["&lt;b&gt;%&#123;x}"]
