import math
from dataclasses import replace

import numpy as np
import pytest
from drawn import checked, event, panel, plain_array, scalars, texts

from cockpit.dashboard.density import draw_density
from cockpit.dashboard.scene import Scene
from cockpit.drawing.timeline import MEASURES, Timeline


def scene(values, step=None, concave=None, events=(), measure="step"):
    columns = {"alpha": scalars("alpha", values)} if len(values) else {}
    if concave is not None:
        columns["alpha.concave"] = scalars("alpha.concave", concave)
    steps = np.arange(0, 10 * max(1, len(values)), 10)
    timeline = Timeline(measure, steps.astype(float), steps * 0.1, 1000.0)
    return Scene(panel("density"), ("alpha",), columns, step, events, clock="Later.", timeline=timeline)


def trace(figure, name):
    return next((trace for trace in figure["data"] if trace.get("name") == name), None)


NOISE = np.random.default_rng(0).normal(0.2, 0.3, 400).tolist()


def test_no_points_say_when_some_are_expected():
    drawing = draw_density(scene([]))
    assert checked(drawing.figure)["data"] == []
    assert drawing.empty == "Later."


@pytest.mark.parametrize("values", [[0.5], [None], [-1.0], [math.nan, math.inf]])
def test_one_point_of_any_sort_is_drawn(values):
    assert checked(draw_density(scene(values)).figure)["data"]


def test_start_floor_and_mirrored_start_are_lines_and_both_sides_have_words():
    figure = checked(draw_density(scene(NOISE)).figure)
    lines = [shape["y0"] for shape in figure["layout"]["shapes"] if shape.get("yref") != "paper"]
    assert lines == [-1, 0, 1]
    assert {"too short", "past the minimum"} <= set(texts(figure))


def test_the_median_is_drawn_between_its_quartiles():
    figure = draw_density(scene(NOISE)).figure
    low, middle, high = (
        plain_array(trace(figure, name)["y"]) for name in ("lower quartile", "median", "upper quartile")
    )
    assert (low < middle).all()
    assert (middle < high).all()
    assert middle.mean() == pytest.approx(0.2, abs=0.05)


def test_the_margin_holds_the_density_of_the_last_tenth_of_the_steps_before_the_selected_one():
    values = [-0.5 + 0.01 * math.sin(step) for step in range(100)] + [0.5] * 100
    now = trace(draw_density(scene(values)).figure, "now")
    assert plain_array(now["y"])[plain_array(now["x"]).argmax()] == pytest.approx(0.5, abs=0.05)
    then = trace(draw_density(scene(values, step=900)).figure, "now")
    assert plain_array(then["y"])[plain_array(then["x"]).argmax()] == pytest.approx(-0.5, abs=0.05)


def test_concave_and_missing_steps_are_words_and_no_cells():
    drawing = draw_density(scene([0.2, -1.0, None, 0.4], concave=[0.0, 1.0, None, 0.0]))
    assert "25 % concave" in drawing.words
    assert "25 % missing" in drawing.words
    shares = plain_array(drawing.figure["data"][0]["z"])
    assert np.nansum(shares) == pytest.approx(1)


def test_what_lies_beyond_the_axis_is_said():
    assert "25 % beyond 1.5" in draw_density(scene([0.1, 0.2, 0.3, 1.55])).words


def test_the_margin_and_the_strip_share_no_axis_and_overlay_none():
    layout = draw_density(scene(NOISE)).figure["layout"]
    assert layout["xaxis"]["domain"][1] < layout["xaxis2"]["domain"][0]
    assert not [name for name, axis in layout.items() if name.startswith("yaxis") and "overlaying" in axis]


@pytest.mark.parametrize("measure", MEASURES)
def test_every_axis_of_time_can_be_drawn(measure):
    figure = checked(draw_density(scene(NOISE, step=100, measure=measure, events=[event("warning", 10)])).figure)
    assert (np.diff(plain_array(figure["data"][0]["x"])) > 0).all()


def test_axes_have_names():
    layout = draw_density(scene(NOISE)).figure["layout"]
    assert layout["xaxis"]["title"]["text"] == "step"
    assert layout["yaxis"]["title"]["text"] == "alpha"


def test_of_a_sample_the_words_say_that_it_is_one():
    words = draw_density(replace(scene(NOISE), sampled=True)).words
    assert words.startswith("A sample of 400 steps: median")
