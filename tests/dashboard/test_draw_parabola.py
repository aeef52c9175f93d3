import math

import numpy as np
import pytest
from drawn import checked, panel, plain_array, scalars, texts

from cockpit.dashboard.parabola import draw_parabola
from cockpit.dashboard.scene import Scene
from cockpit.drawing.positions import GRID, density


def scene(values, concave=None, uphill=None, step=None):
    columns = {"alpha": scalars("alpha", values)}
    for name, flags in (("concave", concave), ("uphill", uphill)):
        if flags is not None:
            columns[f"alpha.{name}"] = scalars(f"alpha.{name}", flags)
    return Scene(panel("parabola"), ("alpha",), columns, step=step, clock="Later.")


def trace(figure, name):
    return next((trace for trace in figure["data"] if trace["name"].startswith(name)), None)


def mass(heights):
    return heights.sum() * (GRID[1] - GRID[0])


def test_no_points_say_when_some_are_expected():
    drawing = draw_parabola(scene([]))
    assert checked(drawing.figure)["data"] == []
    assert drawing.empty == "Later."


def test_one_point_is_a_ball_on_the_parabola():
    figure = checked(draw_parabola(scene([0.5])).figure)
    ball = trace(figure, "this step")
    assert (ball["x"], ball["y"]) == ([0.5], [0.25])


def test_a_ball_above_the_drawing_lies_whole_on_its_upper_edge():
    ball = trace(figure := checked(draw_parabola(scene([1.5])).figure), "this step")
    assert (ball["x"], ball["y"]) == ([1.5], [figure["layout"]["yaxis"]["range"][1]])
    assert not ball["cliponaxis"]


def test_start_floor_and_mirrored_start_are_marked():
    figure = draw_parabola(scene([0.5])).figure
    assert trace(figure, "marks")["x"] == [-1, 0, 1]
    assert {"start", "valley floor", "mirrored", "too short", "past the minimum"} <= set(texts(figure))


def test_the_curve_is_x_squared():
    curve = trace(draw_parabola(scene([0.5])).figure, "parabola")
    np.testing.assert_allclose(plain_array(curve["y"]), plain_array(curve["x"]) ** 2)


def test_a_density_integrates_to_one():
    values = np.random.default_rng(0).normal(0, 0.2, 5000)
    assert mass(density(values)) == pytest.approx(1, abs=1e-3)


def test_what_lies_beyond_the_axis_lowers_the_density():
    values = np.concatenate([np.zeros(80), np.full(20, 10.0)])
    assert mass(density(values)) == pytest.approx(0.8, abs=0.01)


def test_equal_steps_have_a_density():
    assert np.isfinite(density(np.zeros(10))).all()


def test_the_density_peaks_where_the_steps_end():
    figure = checked(draw_parabola(scene(np.random.default_rng(1).normal(0.5, 0.1, 200).tolist())).figure)
    curve = trace(figure, "all")
    assert GRID[plain_array(curve["y"]).argmax()] == pytest.approx(0.5, abs=0.05)


def test_the_last_tenth_has_a_density_of_its_own():
    values = [-0.5 + 0.01 * math.sin(step) for step in range(90)] + [0.5 + 0.01 * math.sin(step) for step in range(10)]
    last = trace(draw_parabola(scene(values)).figure, "last")
    assert last["name"] == "last 10"
    assert GRID[plain_array(last["y"]).argmax()] == pytest.approx(0.5, abs=0.05)


def test_concave_steps_stay_out_of_the_density_and_are_said():
    values, flags = [0.2] * 6 + [-1.0] * 2, [0.0] * 6 + [1.0] * 2
    drawing = draw_parabola(scene(values, concave=flags))
    density_near_start = plain_array(trace(drawing.figure, "all")["y"])[np.abs(GRID + 1) < 0.05]
    assert density_near_start.max() < 1e-6
    assert drawing.words.startswith("8 tracked steps: median 0.2, 25 % concave.")


def test_minus_one_is_concave_by_convention_even_without_a_flag():
    assert "50 % concave" in draw_parabola(scene([0.2, -1.0])).words


def test_uphill_steps_stay_out_of_the_median():
    words = draw_parabola(scene([0.2, 0.2, 99.0], uphill=[0.0, 0.0, 1.0])).words
    assert "median 0.2" in words
    assert "33 % uphill" in words


def test_missing_and_not_a_number_are_missing():
    words = draw_parabola(scene([0.1, None, math.nan, 0.3])).words
    assert words.startswith("4 tracked steps: median 0.2, 50 % missing.")


def test_what_lies_beyond_the_axis_is_said():
    assert "25 % beyond 1.6" in draw_parabola(scene([0.1, 0.2, 0.3, 5.0])).words


def test_nothing_to_leave_out_is_said_too():
    assert "none concave, uphill or missing" in draw_parabola(scene([0.1, 0.2])).words


def test_only_steps_up_to_the_selected_one_count():
    drawing = draw_parabola(scene([0.1, 0.3, 5.0], step=15))
    assert drawing.words.startswith("2 tracked steps: median 0.2,")
    assert trace(drawing.figure, "this step")["x"] == [0.3]


def test_before_the_first_point_nothing_is_claimed():
    drawing = draw_parabola(scene([0.1], step=-5))
    assert checked(drawing.figure)
    assert "alpha: nothing yet at this step" in texts(drawing.figure)
    assert drawing.words.strip() == ""


def test_a_concave_step_has_no_ball_but_is_named():
    figure = draw_parabola(scene([0.1, -1.0])).figure
    assert trace(figure, "this step") is None
    assert "alpha at step 10: concave" in texts(figure)


def test_all_steps_concave_leave_no_density():
    drawing = draw_parabola(scene([-1.0] * 10))
    assert trace(checked(drawing.figure), "all") is None
    assert drawing.words.startswith("10 tracked steps: 100 % concave.")
