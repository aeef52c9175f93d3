"""Curves with what they are compared with: bands, thresholds, error bars, other curves, sentences."""

import math

import numpy as np
import pytest
from drawn import checked, curves, panel, plain_array, scalars, texts

from cockpit.dashboard.lines import draw_lines
from cockpit.dashboard.scene import Scene
from cockpit.drawing.timeline import MEASURES, Timeline


def scene(*columns, step=None, log=False, smooth=None, keys=("a",), measure="step", **settings):
    by_key = {column.key: column for column in columns}
    times = np.arange(0, 1000, 10)
    timeline = Timeline(measure, times.astype(float), times * 0.1, 1000.0)
    return Scene(panel(**settings), keys, by_key, step=step, log=log, clock="Later.", smooth=smooth, timeline=timeline)


def named(figure, name):
    return [trace for trace in figure["data"] if trace.get("name") == name]


def test_a_band_reaches_from_its_lower_to_its_upper_edge():
    columns = scalars("a", [2.0, 2.0]), scalars("low", [1.0, 1.5]), scalars("high", [3.0, 4.0])
    (band,) = named(checked(draw_lines(scene(*columns, band=("low", "high"))).figure), "band")
    assert plain_array(band["x"]).tolist() == [0, 10, 10, 0]
    assert plain_array(band["y"]).tolist() == [3, 4, 1.5, 1]


def test_a_band_has_a_gap_where_an_edge_is_missing():
    low = scalars("low", [1.0, 1.0, None, 1.0, 1.0])
    columns = scalars("a", [2.0] * 5), low, scalars("high", [3.0] * 5)
    bands = named(draw_lines(scene(*columns, band=("low", "high"))).figure, "band")
    assert [plain_array(band["x"]).tolist() for band in bands] == [[0, 10, 10, 0], [30, 40, 40, 30]]


def test_half_a_band_is_none():
    figure = checked(
        draw_lines(scene(scalars("a", [1.0, 2.0]), scalars("low", [1.0, 1.0]), band=("low", "high"))).figure
    )
    assert named(figure, "band") == []


def test_a_threshold_is_dashed_named_and_no_strip_of_its_own():
    columns = scalars("a", [2.0, 3.0]), scalars("t", [1.0, 1.0])
    figure = checked(draw_lines(scene(*columns, thresholds=(("t", "the limit"),))).figure)
    (line,) = named(figure, "the limit")
    assert (line["line"]["dash"], line["yaxis"]) == ("dash", "y")
    assert "the limit" in texts(figure)
    assert "yaxis3" not in figure["layout"]


def test_a_threshold_holds_until_it_changes():
    columns = scalars("a", [2.0] * 4), scalars("t", [1.0, None, None, 2.0])
    (line,) = named(draw_lines(scene(*columns, thresholds=(("t", "limit"),))).figure, "limit")
    assert plain_array(line["x"]).tolist() == [0, 30]
    assert line["line"]["shape"] == "hv"


def test_a_threshold_with_a_single_value_is_seen():
    columns = scalars("a", [1.0, 2.0]), scalars("t", [1.5])
    (dash,) = named(checked(draw_lines(scene(*columns, thresholds=(("t", "limit"),))).figure), "limit")
    assert (dash["mode"], dash["marker"]["symbol"]) == ("markers", "line-ew")


def test_the_label_of_a_threshold_stands_at_its_height_on_either_axis():
    columns = scalars("a", [2.0, 3.0]), scalars("t", [100.0, 1000.0])
    for log, height in ((False, 1000), (True, 3)):
        figure = draw_lines(scene(*columns, log=log, thresholds=(("t", "limit"),))).figure
        (label,) = [note for note in figure["layout"]["annotations"] if note["text"] == "limit"]
        assert label["y"] == pytest.approx(height)


@pytest.mark.parametrize("value", [None, math.nan, 0.0])
def test_a_threshold_without_a_place_is_not_drawn(value):
    columns = scalars("a", [2.0, 3.0]), scalars("t", [value, value])
    figure = checked(draw_lines(scene(*columns, log=True, thresholds=(("t", "limit"),))).figure)
    assert named(figure, "limit") == []
    assert "limit" not in texts(figure)


def test_the_caption_compares_the_threshold_with_the_curve_at_the_selected_step():
    columns = scalars("a", [100.0, 400.0]), scalars("t", [128.0, 128.0])
    settings = {"thresholds": (("t", "batch"),), "caption": "The batch is {} × the noise scale"}
    assert draw_lines(scene(*columns, **settings)).words == "The batch is 0.32 × the noise scale"
    assert draw_lines(scene(*columns, step=0, **settings)).words == "The batch is 1.3 × the noise scale"
    assert "batch is" not in draw_lines(scene(scalars("a", [None]), columns[1], **settings)).words


def test_a_caption_of_a_hostile_log_is_text():
    columns = scalars("a", [1.0]), scalars("t", [2.0])
    caption = "{0.__class__} {} {a}"
    assert draw_lines(scene(*columns, thresholds=(("t", "t"),), caption=caption)).words == "{0.__class__} 2 {a}"


def test_the_share_of_steps_is_that_up_to_the_selected_one():
    columns = scalars("a", [1.0] * 4), scalars("clip", [0.0, 1.0, 1.0, None])
    settings = {"shares": (("clip", "of the steps clipped"),)}
    assert draw_lines(scene(*columns, **settings)).words == "67 % of the steps clipped"
    assert draw_lines(scene(*columns, step=15, **settings)).words == "50 % of the steps clipped"


def test_errors_are_bars_on_the_readings():
    columns = scalars("a", [2.0, 3.0, 4.0]), scalars("e", [0.1, 0.2], steps=[0, 20])
    curve = curves(checked(draw_lines(scene(*columns, error="e")).figure))[0]
    assert plain_array(curve["error_y"]["array"]).tolist() == pytest.approx([0.1, 0, 0.2])


def test_metrics_like_the_first_key_join_its_strip_and_differ_by_dash():
    columns = [scalars(key, [2.0, 1.0]) for key in ("a", "valid/loss", "train_loss", "accuracy")]
    figure = checked(draw_lines(scene(*columns, like="loss")).figure)
    assert [trace["name"] for trace in curves(figure)] == ["a", "train_loss", "valid/loss"]
    assert {trace["yaxis"] for trace in curves(figure)} == {"y"}
    assert len({trace["line"]["dash"] for trace in curves(figure)}) == 3
    assert texts(figure) == ["a  ── mini-batch <b>1</b>   ╌╌ train_loss <b>1</b>   ┈┈ valid/loss <b>1</b>"]


def test_a_metric_alone_keeps_its_name():
    figure = checked(draw_lines(scene(scalars("valid/loss", [2.0, 1.0]), like="loss")).figure)
    assert "valid/loss" in texts(figure)[0]


def test_strips_are_as_high_as_the_panel_says():
    columns = scalars("a", [1.0, 2.0]), scalars("b", [1.0, 2.0])
    layout = draw_lines(scene(*columns, keys=("a", "b"), heights=(3.0, 1.0))).figure["layout"]
    upper, lower = (layout[name]["domain"] for name in ("yaxis", "yaxis2"))
    assert upper[1] - upper[0] > 2.5 * (lower[1] - lower[0]) > 0


def test_smoothing_is_as_strong_as_asked():
    values = np.random.default_rng(0).normal(size=60).tolist()
    column = scalars("a", values)
    assert len(curves(draw_lines(scene(column, smooth=0.0)).figure)) == 1
    weak, strong = (
        plain_array(curves(draw_lines(scene(column, smooth=weight)).figure)[1]["y"]) for weight in (0.5, 0.9)
    )
    assert np.std(strong) < np.std(weak) < np.std(values)
    assert len(curves(draw_lines(scene(scalars("a", [3.0, 2.0, 1.0]), smooth=0.9)).figure)) == 2


def test_of_very_many_points_the_extremes_are_an_area():
    values = np.random.default_rng(0).normal(size=900)
    area, raw, smooth = curves(checked(draw_lines(scene(scalars("a", values.tolist()))).figure))
    heights = plain_array(area["y"])
    assert (heights.min(), heights.max()) == (values.min(), values.max())
    assert raw["opacity"] == 0  # the pointer still finds its values
    assert len(plain_array(smooth["y"])) == 900


@pytest.mark.parametrize("measure", MEASURES)
def test_curves_thresholds_and_marks_stand_on_the_same_axis(measure):
    columns = scalars("a", [2.0] * 5), scalars("t", [1.0] * 5), scalars("low", [1.0] * 5), scalars("high", [3.0] * 5)
    settings = {"thresholds": (("t", "limit"),), "band": ("low", "high"), "measure": measure, "step": 20}
    figure = checked(draw_lines(scene(*columns, **settings)).figure)
    ends = {(float(plain_array(trace["x"]).min()), float(plain_array(trace["x"]).max()))
            for trace in figure["data"] if trace.get("mode") == "lines"}  # fmt: skip
    assert len(ends) == 1
    ((first, last),) = ends
    veil = figure["layout"]["shapes"][0]
    assert first < veil["x0"] < last < veil["x1"]
