import math

import numpy as np
import pytest
from drawn import checked, panel, plain_array, scalars, texts

from cockpit.dashboard.gauge import draw_gauge
from cockpit.dashboard.scene import Scene

KEYS = ("norm_test", "inner_test", "ortho_test")


def scene(norm, inner, ortho, step=None):
    columns = {key: scalars(key, values) for key, values in zip(KEYS, (norm, inner, ortho), strict=True)}
    return Scene(panel("gauge"), KEYS, columns, step=step, clock="Later.")


def shape(figure, name):
    found = [trace for trace in figure["data"] if name in trace["name"]]
    return (plain_array(found[0]["x"]), plain_array(found[0]["y"])) if found else None


def test_no_points_say_when_some_are_expected():
    drawing = draw_gauge(scene([], [], []))
    assert checked(drawing.figure)["data"] == []
    assert drawing.empty == "Later."


def test_the_norm_test_is_a_circle_around_the_arrows_tip():
    x, y = shape(checked(draw_gauge(scene([0.5], [0.3], [0.4])).figure), "radius")
    np.testing.assert_allclose(np.hypot(x, y - 1), 0.5)


def test_the_inner_test_is_a_band_along_the_arrow():
    _, y = shape(draw_gauge(scene([0.5], [0.3], [0.4])).figure, "along")
    assert (y.min(), y.max()) == pytest.approx((0.7, 1.3))


def test_the_ortho_test_is_a_band_across_the_arrow():
    x, _ = shape(draw_gauge(scene([0.5], [0.3], [0.4])).figure, "across")
    assert (x.min(), x.max()) == pytest.approx((-0.4, 0.4))


def test_the_arrow_has_length_one():
    (arrow,) = [note for note in draw_gauge(scene([0.5], [0.3], [0.4])).figure["layout"]["annotations"]
                if note["showarrow"]]  # fmt: skip
    assert (arrow["ax"], arrow["ay"], arrow["x"], arrow["y"]) == (0, 0, 0, 1)


def test_the_gauge_is_round():
    layout = draw_gauge(scene([0.5], [0.3], [0.4])).figure["layout"]
    assert layout["yaxis5"]["scaleanchor"] == "x5"


def test_the_gauge_shows_the_selected_step():
    x, _ = shape(draw_gauge(scene([0.5, 0.9], [0.3, 0.4], [0.4, 0.8], step=5)).figure, "across")
    assert x.max() == pytest.approx(0.4)


def test_histories_stand_beside_the_gauge():
    figure = draw_gauge(scene([0.5, 0.6], [0.3, 0.4], [0.4, 0.5])).figure
    assert [text.split("  ")[0] for text in texts(figure)[:3]] == list(KEYS)
    assert figure["layout"]["xaxis"]["domain"][0] > figure["layout"]["xaxis5"]["domain"][1]


def test_a_missing_test_has_no_shape_and_is_said():
    drawing = draw_gauge(scene([0.5], [0.3], [None]))
    assert shape(checked(drawing.figure), "across") is None
    assert shape(drawing.figure, "radius") is not None
    assert "ortho_test is missing at this step" in drawing.words


@pytest.mark.parametrize(("value", "shown"), [(math.inf, "∞"), (math.nan, "NaN")])
def test_a_test_without_a_finite_value_has_no_shape_and_is_said(value, shown):
    drawing = draw_gauge(scene([value], [0.3], [0.4]))
    assert shape(checked(drawing.figure), "radius") is None
    assert f"norm_test is {shown}" in drawing.words


def test_a_wide_scatter_widens_the_gauge_in_jumps():
    def half_width(norm):
        return draw_gauge(scene([norm], [0.1], [0.1])).figure["layout"]["xaxis5"]["range"][1]

    assert half_width(0.5) == half_width(1.2) < half_width(1.3) == half_width(2.4)
