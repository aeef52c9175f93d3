import pytest
from drawn import checked, curves, layer_histograms, layers, panel, plain_array, scalars, texts

from cockpit.dashboard.ridgelines import draw_ridgelines
from cockpit.dashboard.scene import Scene
from cockpit.dashboard.theme import ROW_HEIGHT
from cockpit.drawing.ridges import FIRST, ZEROS

NAMES, EDGES = ("conv.weight", "fc.weight"), [-30.0, -29.0, -28.0, -27.0]


def scene(counts=((1, 3, 0), (0, 0, 5)), first=None, zeros=None, limits=None, step=None, names=NAMES):
    columns = {}
    if counts is not None:
        columns["logs"] = layer_histograms("logs", counts, names, EDGES, step=20)
    if first is not None:
        columns["logs" + FIRST] = layer_histograms("logs", first, names, EDGES, step=0)
    if zeros is not None:
        columns["logs" + ZEROS] = layers("logs" + ZEROS, [zeros], names, steps=[20])
    if limits is not None:
        columns["amp.smallest"] = scalars("amp.smallest", limits)
    shown = panel("ridgelines", xlabel="log₂ |element|", thresholds=(("amp.smallest", "rounds to 0"),))
    return Scene(shown, ("logs",), columns, step, clock="Later.")


def test_no_points_say_when_some_are_expected():
    drawing = draw_ridgelines(scene(None))
    assert checked(drawing.figure)["data"] == []
    assert drawing.empty == "Later."


def test_each_layer_is_a_ridge_that_stands_on_its_own_line():
    ridges = curves(checked(draw_ridgelines(scene()).figure))
    assert [ridge["name"] for ridge in ridges] == list(NAMES)
    for place, ridge in enumerate(ridges):
        heights = plain_array(ridge["y"])
        assert heights[0] == heights[-1] == place  # the foot
        assert heights.min() < place  # and upwards from there: the axis points down


def test_every_layer_is_as_high_as_its_neighbours_however_wide_it_is():
    first, second = curves(draw_ridgelines(scene(((1, 1, 1), (0, 0, 5)))).figure)
    assert 0 - plain_array(first["y"]).min() == pytest.approx(1 - plain_array(second["y"]).min())


@pytest.mark.parametrize("layers", [2, 20, 90])
def test_two_rows_of_panels_fit_a_laptops_window_whatever_the_number_of_layers(layers):
    names = tuple(f"blocks.{place}.weight" for place in range(layers))
    drawing = draw_ridgelines(scene(counts=((1, 3, 0),) * layers, names=names))
    assert ROW_HEIGHT <= drawing.height <= 285  # of 900 pixels, beside the strip, the replay bar, headings and words


def test_a_ridge_and_its_ghost_have_one_scale():
    first = ((0, 4, 0), (0, 0, 5))
    ghost, ridge, *_ = curves(draw_ridgelines(scene(((2, 2, 0), (0, 0, 5)), first=first)).figure)
    assert plain_array(ridge["y"]).min() == pytest.approx(plain_array(ghost["y"]).min() / 2)


def test_the_first_step_is_a_dotted_outline_behind_each_ridge():
    drawing = draw_ridgelines(scene(first=((4, 0, 0), (1, 0, 0))))
    ghosts = [trace for trace in curves(checked(drawing.figure)) if trace["name"] == "first"]
    assert [ghost["line"]["dash"] for ghost in ghosts] == ["dot", "dot"]
    assert drawing.words == "Step 20; dotted: step 0"


def test_the_share_of_zeros_stands_beside_its_layer():
    found = draw_ridgelines(scene(zeros=[0.5, 0.0])).figure["layout"]["annotations"]
    assert [(note["text"], note["y"]) for note in found[1:]] == [("50 %", 0), ("0 %", 1)]


def test_limits_are_those_of_the_selected_step():
    figure = checked(draw_ridgelines(scene(limits=[-34.0, -33.0], step=25)).figure)
    (line,) = figure["layout"]["shapes"]
    assert (line["x0"], line["x1"]) == (-33, -33)
    assert "rounds to 0" in texts(figure)


def test_without_loss_scaling_there_are_no_limits():
    assert draw_ridgelines(scene()).figure["layout"]["shapes"] == []


def test_a_layer_without_a_ridge_is_said():
    drawing = draw_ridgelines(scene(((0, 0, 0), (0, 0, 5))))
    assert [ridge["name"] for ridge in curves(checked(drawing.figure))] == ["fc.weight"]
    assert drawing.words == "Step 20; nothing but zeros or missing in 1"


def test_axes_have_names():
    layout = draw_ridgelines(scene()).figure["layout"]
    assert (layout["xaxis"]["title"]["text"], layout["yaxis"]["title"]["text"]) == ("log₂ |element|", "layer")


def test_names_are_no_markup():
    figure = checked(draw_ridgelines(scene(names=("<b>x</b>", "y"))).figure)
    assert figure["layout"]["yaxis"]["ticktext"][0] == "&lt;b&gt;x&lt;/b&gt;"
    assert all("<b>" not in text for trace in curves(figure) for text in trace.get("text", ()))
