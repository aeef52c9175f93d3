import math

import numpy as np
import pytest
from drawn import checked, curves, event, panel, plain_array, scalars, texts

from cockpit.dashboard.lines import draw_lines
from cockpit.dashboard.scene import Scene


def scene(*columns, step=None, log=False, events=(), clock="Later.", why="", keys=None, **settings):
    keys = keys or tuple(column.key for column in columns) or ("loss",)
    by_key = {column.key: column for column in columns}
    return Scene(panel(**settings), keys, by_key, step=step, log=log, events=events, clock=clock, why=why)


def test_no_points_say_when_some_are_expected():
    drawing = draw_lines(scene(clock="Appears with the first reading."))
    assert checked(drawing.figure)["data"] == []
    assert drawing.empty == "Appears with the first reading."


def test_a_column_without_rows_counts_as_no_points():
    assert draw_lines(scene(scalars("loss", []))).empty == "Later."


def test_one_point_is_visible():
    figure = checked(draw_lines(scene(scalars("loss", [0.5]))).figure)
    (dot,) = curves(figure, "markers")
    assert plain_array(dot["y"]).tolist() == [0.5]


def test_a_missing_value_is_a_gap():
    figure = checked(draw_lines(scene(scalars("loss", [3.0, 2.0, None, 1.0, 0.5]))).figure)
    (curve,) = curves(figure)
    np.testing.assert_array_equal(plain_array(curve["y"]), [3.0, 2.0, np.nan, 1.0, 0.5])
    assert not curves(figure, "markers")
    assert "connectgaps" not in curve


def test_missing_values_are_counted_in_words():
    assert draw_lines(scene(scalars("loss", [1.0, None, None]))).words == "loss: 2 missing"


@pytest.mark.parametrize("log", [False, True])
def test_of_what_is_always_missing_no_values_are_made_up(log):
    drawing = draw_lines(scene(scalars("loss", [None, None]), log=log))
    assert drawing.empty == "Missing at every step so far."
    assert not checked(drawing.figure)["layout"]["yaxis"]["showgrid"]
    assert draw_lines(scene(scalars("loss", [None, math.inf]))).empty == ""


def test_of_what_is_always_missing_the_reason_is_told():
    drawing = draw_lines(scene(scalars("loss", [None, None]), why="The run says: a batch of one sample."))
    assert drawing.empty == "Missing at every step so far. The run says: a batch of one sample."
    assert draw_lines(scene(scalars("loss", [1.0, None]), why="The run says: a batch of one sample.")).empty == ""


@pytest.mark.parametrize(
    ("values", "end", "side"),
    [
        ([0.0, -1.0, -1.0, -1.0], "end", "top"),
        ([0.2, -1.0, -1.0, -0.05], "end", "bottom"),  # above the line is less room, but nothing
        ([0.2, -1.0, -0.9, 0.1], "end", "top"),  # none is free
        ([-1.0, -1.0, 0.0, 0.1, -0.1, 0.05], "start", "top"),
        ([0.0, 0.0], "end", "bottom"),
    ],
)
def test_a_lines_words_cover_no_curve_where_they_need_not(values, end, side):
    figure = checked(draw_lines(scene(scalars("k", values), references=((0.0, "stop above"),))).figure)
    (line,) = [shape for shape in figure["layout"]["shapes"] if "label" in shape]
    assert (line["label"]["textposition"], line["label"]["yanchor"]) == (end, side)


@pytest.mark.parametrize(("step", "end"), [(None, 102), (50, 102), (100, 102), (150, 152)])
def test_an_axis_of_steps_ends_where_the_veil_does(step, end):
    columns = scalars("loss", [1.0, 2.0], [0, 80]), scalars("limit", [1.0, 2.0], [0, 100])
    by_key = {column.key: column for column in columns}
    shown = Scene(panel(thresholds=(("limit", "stable below"),)), ("loss",), by_key, step=step)
    layout = checked(draw_lines(shown).figure)["layout"]
    veils = [shape["x1"] for shape in layout["shapes"] if shape["type"] == "rect"]
    assert set(veils) == {layout["xaxis"]["autorangeoptions"]["clipmax"]} == {end}


def test_a_strip_that_is_most_of_the_figure_has_as_many_ticks_as_one_by_itself():
    columns = [scalars(key, [1.0, 2.0]) for key in ("loss", "rate")]
    for heights, ticks in (((3.0, 1.0), [5, 3]), ((1.0, 1.0), [3, 3])):
        layout = checked(draw_lines(scene(*columns, heights=heights)).figure)["layout"]
        assert [layout[name]["nticks"] for name in ("yaxis", "yaxis2")] == ticks


def test_between_two_steps_ticks_say_where_they_stand_and_far_apart_steps_are_told_in_full():
    axis = draw_lines(scene(scalars("loss", [1.0]))).figure["layout"]["xaxis"]
    assert (axis["tickformat"], axis["hoverformat"]) == (",~f", ",~d")  # 0, 0.2, …, 1; 1,234,567


def test_a_point_between_two_gaps_is_visible():
    figure = draw_lines(scene(scalars("loss", [2.0, 2.0, None, 1.0, None, 0.5, 0.4]))).figure
    (dot,) = curves(figure, "markers")
    assert plain_array(dot["x"]).tolist() == [30]


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "−∞")])
def test_a_logged_non_number_is_a_cross_and_not_a_gap_alone(value, shown):
    figure = checked(draw_lines(scene(scalars("loss", [3.0, 2.0, value, 2.5, 2.0]))).figure)
    (cross,) = curves(figure, "markers")
    assert cross["text"] == [shown]
    assert plain_array(cross["x"]).tolist() == [20]
    assert plain_array(cross["y"]).tolist() == [3.0]


def test_nothing_but_non_numbers_is_drawn():
    figure = checked(draw_lines(scene(scalars("loss", [math.nan, math.nan]))).figure)
    (cross,) = curves(figure, "markers")
    assert plain_array(cross["y"]).tolist() == [1.0, 1.0]


def test_each_key_has_a_strip_of_its_own_on_the_shared_step_axis():
    figure = checked(draw_lines(scene(scalars("distance", [1.0, 2.0]), scalars("update_size", [0.1, 0.2]))).figure)
    assert [curve["yaxis"] for curve in curves(figure)] == ["y", "y2"]
    assert {curve.get("xaxis", "x") for curve in curves(figure)} == {"x"}
    upper, lower = (figure["layout"][axis]["domain"] for axis in ("yaxis", "yaxis2"))
    assert lower[1] < upper[0]


def test_no_axis_overlays_another():
    figure = draw_lines(scene(scalars("a", [1.0, 2.0]), scalars("b", [1.0, 2.0]))).figure
    assert not [name for name, axis in figure["layout"].items() if name.startswith("yaxis") and "overlaying" in axis]


def test_axes_have_names():
    figure = draw_lines(scene(scalars("grad_norm", [1.0, 2.0]), ylabel="norm of the gradient")).figure
    assert figure["layout"]["xaxis"]["title"]["text"] == "step"
    assert texts(figure)[0].startswith("norm of the gradient")


def test_headings_tell_the_value_at_the_selected_step():
    columns = scalars("loss", [3.0, 2.0, 1.0])
    assert texts(draw_lines(scene(columns)).figure) == ["loss  <b>1</b>"]
    assert texts(draw_lines(scene(columns, step=15)).figure) == ["loss  <b>2</b>"]


def test_before_its_first_point_a_strip_says_missing():
    assert texts(draw_lines(scene(scalars("loss", [1.0], steps=[50]), step=10)).figure) == ["loss  <b>missing</b>"]


def test_a_selected_step_has_a_line_a_dot_and_a_veil_over_what_came_later():
    figure = checked(draw_lines(scene(scalars("loss", [3.0, 2.0, 1.0, 0.5]), step=10)).figure)
    veil, line = figure["layout"]["shapes"][:2]
    assert (veil["type"], veil["x0"], veil["opacity"]) == ("rect", 10, 1)
    assert veil["x1"] > 30
    assert (line["type"], line["x0"], line["x1"]) == ("line", 10, 10)
    (dot,) = curves(figure, "markers")
    assert (plain_array(dot["x"]).tolist(), plain_array(dot["y"]).tolist()) == ([10], [2.0])


def test_the_step_axis_has_the_same_reach_whether_a_step_is_selected_or_not():
    column = scalars("loss", [3.0, 2.0, 1.0])
    ends = {max(shape["x1"] for shape in draw_lines(scene(column, step=step)).figure["layout"]["shapes"])
            for step in (None, 0, 10, 20)}  # fmt: skip
    assert len(ends) == 1


def test_a_noisy_curve_is_a_ghost_behind_its_average():
    noise = np.random.default_rng(0).normal(size=60)
    raw, smooth = curves(draw_lines(scene(scalars("loss", noise.tolist()))).figure)
    assert raw["line"]["width"] < smooth["line"]["width"]
    assert plain_array(smooth["y"]).std() < plain_array(raw["y"]).std()


def test_a_smooth_curve_is_drawn_once():
    assert len(curves(draw_lines(scene(scalars("loss", np.linspace(1, 0, 60).tolist()))).figure)) == 1


def test_log_axes_say_what_they_hide():
    drawing = draw_lines(scene(scalars("distance", [0.0, 1.0, 10.0, 1000.0]), log=True))
    assert checked(drawing.figure)["layout"]["yaxis"]["type"] == "log"
    assert drawing.words == "distance: 1 at or below 0, which a log axis cannot show"


@pytest.mark.parametrize("values", [[1.0, 1.2], [1.0, 8.0], [1.0, 20.0], [1e-6, 1e3], [2.0, 2.0]])
def test_log_axes_have_a_handful_of_ticks_however_wide_the_values_span(values):
    tick = draw_lines(scene(scalars("a", values), log=True)).figure["layout"]["yaxis"]["dtick"]
    if isinstance(tick, str) and tick.startswith("L"):
        assert (values[1] - values[0]) / float(tick[1:]) <= 4
    else:
        assert tick in ("D1", "D2") or np.log10(values[1] / values[0]) / tick <= 6


@pytest.mark.parametrize("values", [[0.0, 0.0], [-1.0, 0.0], [-2.0, None]])
def test_what_a_log_axis_could_show_nothing_of_has_a_linear_one(values):
    drawing = draw_lines(scene(scalars("amp.skipped", values), scalars("amp", [1.0, 2.0]), log=True))
    first, second = (checked(drawing.figure)["layout"][name] for name in ("yaxis", "yaxis2"))
    assert sorted([axis.get("type") == "log" for axis in (first, second)]) == [False, True]
    assert "log axis" not in drawing.words


def test_a_constant_curve_has_an_axis_of_its_own_size():
    axis = draw_lines(scene(scalars("lr", [0.02, 0.02]))).figure["layout"]["yaxis"]
    assert axis["autorangeoptions"] == pytest.approx({"minallowed": 0.01, "maxallowed": 0.03})


def test_the_users_metrics_follow_the_panels_own_keys():
    columns = [scalars("loss", [1.0, 0.5]), scalars("valid/accuracy", [0.1, 0.9])]
    figure = draw_lines(scene(*columns, keys=("loss",), user_metrics=True)).figure
    assert [text.split("  ")[0] for text in texts(figure)] == ["loss", "valid/accuracy"]


def test_a_metric_of_several_sets_shares_a_strip_and_differs_by_dash():
    columns = [scalars("loss", [1.0]), scalars("valid/accuracy", [0.1, 0.9]), scalars("train/accuracy", [0.2, 1.0])]
    figure = draw_lines(scene(*columns, keys=("loss",), user_metrics=True)).figure
    train, valid = (curve for curve in curves(figure) if curve["yaxis"] == "y2")
    assert train["line"]["dash"] != valid["line"]["dash"]
    assert texts(figure)[1] == "accuracy  ── train <b>1</b>   ╌╌ valid <b>0.9</b>"


def test_other_peoples_metrics_stay_out_of_a_panel_that_does_not_ask_for_them():
    figure = draw_lines(scene(scalars("loss", [1.0]), scalars("valid/accuracy", [0.1]), keys=("loss",))).figure
    assert len(texts(figure)) == 1


def test_many_strips_make_a_higher_panel():
    columns = [scalars(f"metric{number}", [1.0, 2.0]) for number in range(7)]
    assert draw_lines(scene(*columns)).height > draw_lines(scene(*columns[:3])).height


@pytest.mark.parametrize(
    ("values", "reference", "log", "side"),
    [
        ([-3.0, -0.01], 0.0, False, "top"),
        ([-0.1, 3.0], 0.0, False, "bottom"),
        ([-1.7, -1.2], 0.0, False, "top"),
        ([1e-6, 2e-3], 1e-3, True, "top"),
        ([5e-4, 1.0], 1e-3, True, "bottom"),
        ([1.0, 2.0], 0.0, True, "bottom"),
        ([math.nan], 0.0, False, "bottom"),
        ([-1e308, 1e308], 1e307, False, "top"),
    ],
)
def test_words_of_a_reference_line_stand_where_the_axis_has_room_for_them(values, reference, log, side):
    figure = draw_lines(scene(scalars("k", values), references=((reference, "stop above"),), log=log)).figure
    (line,) = (shape for shape in figure["layout"]["shapes"] if "label" in shape)
    assert line["label"]["yanchor"] == side


def test_reference_lines_carry_their_meaning():
    figure = checked(draw_lines(scene(scalars("norm_test", [0.5, 0.6]), references=((0.7, "noise = signal"),))).figure)
    (line,) = (shape for shape in figure["layout"]["shapes"] if "label" in shape)
    assert (line["y0"], line["y1"], line["label"]["text"]) == (0.7, 0.7, "noise = signal")


def test_events_are_ticks_at_their_steps():
    happened = [event("learning_rate", 10, "0.1 → 0.01"), event("warning", 20, "odd"), event("warning", None, "always")]
    figure = checked(draw_lines(scene(scalars("loss", [3.0, 2.0, 1.0]), events=happened)).figure)
    ticks = {trace["name"]: trace for trace in figure["data"] if trace["yaxis"] == "y2"}
    assert {name: plain_array(trace["x"]).tolist() for name, trace in ticks.items()} == {
        "learning rate": [10],
        "warning": [20],
    }
    assert ticks["learning rate"]["text"] == ["0.1 → 0.01"]


def test_a_flood_of_events_is_thinned():
    happened = [event("evaluation", step, "") for step in range(5000)]
    figure = draw_lines(scene(scalars("loss", [3.0, 1.0], steps=[0, 5000]), events=happened)).figure
    (ticks,) = (trace for trace in figure["data"] if trace["name"] == "evaluation")
    assert len(plain_array(ticks["x"])) <= 150


def test_names_that_look_like_markup_stay_text():
    key = "<b>bold</b> & %{x}"
    figure = checked(draw_lines(scene(scalars(key, [1.0, 2.0]))).figure)
    assert texts(figure)[0].startswith("&lt;b&gt;bold&lt;/b&gt; &amp;")
    (curve,) = curves(figure)
    assert "<b>" not in curve["hovertemplate"]
    assert "%{x}" not in curve["hovertemplate"]


def test_curves_are_svg_and_not_webgl():
    figure = draw_lines(scene(scalars("loss", [1.0, 2.0]))).figure
    assert {trace["type"] for trace in figure["data"]} == {"scatter"}
