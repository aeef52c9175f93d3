import math
from dataclasses import replace

import numpy as np
import pytest
from drawn import checked, curves, event, layers, panel, plain_array

from cockpit.dashboard.heatmap import MOST_CROSSES, draw_heatmap
from cockpit.dashboard.scene import Scene
from cockpit.dashboard.theme import LIGHT
from cockpit.drawing.cells import AT
from cockpit.drawing.columns import up_to
from cockpit.drawing.timeline import MEASURES, Timeline

NAMES = ("conv.weight", "conv.bias", "fc.weight")
VALUES = [[1e-3, math.nan, 1e-2], [2e-3, 1e-5, 1e-1], [3e-3, 0.0, 1.0]]


def scene(values=VALUES, step=None, log=True, names=NAMES, events=(), measure="step", **settings):
    column = layers("ratio", values, names) if len(values) else None
    columns = {} if column is None else {"ratio": column, "ratio" + AT: up_to(column, step)}
    steps = np.arange(0, 10 * max(1, len(values)), 10)
    timeline = Timeline(measure, steps.astype(float), steps * 0.1, 1000.0)
    shown = panel("heatmap", **{"limits": (1e-5, 1e-1), **settings})
    return Scene(shown, ("ratio",), columns, step, events, log=log, clock="Later.", timeline=timeline)


def colours(figure):
    return next(trace for trace in figure["data"] if trace["type"] == "heatmap")


def test_no_points_say_when_some_are_expected():
    drawing = draw_heatmap(scene([]))
    assert checked(drawing.figure)["data"] == []
    assert drawing.empty == "Later."


def test_one_point_is_a_column_of_cells():
    figure = checked(draw_heatmap(scene(VALUES[:1])).figure)
    assert plain_array(colours(figure)["z"]).shape == (3, 1)
    assert plain_array(colours(figure)["x"]).tolist() == [-0.5, 0.5]


@pytest.mark.parametrize("measure", MEASURES)
def test_the_axis_begins_with_the_first_reading_however_wide_its_cell_is(measure):
    shown = scene(measure=measure)
    figure = checked(draw_heatmap(shown).figure)
    begin = figure["layout"]["xaxis"]["autorangeoptions"]["clipmin"]
    assert plain_array(colours(figure)["x"])[0] < begin == shown.timeline.at(0)


def test_the_axis_begins_with_what_happened_before_the_first_reading():
    column = layers("ratio", VALUES, NAMES, steps=[10, 20, 30])
    shown = Scene(panel("heatmap"), ("ratio",), {"ratio": column}, events=[event("warning", 3)])
    assert draw_heatmap(shown).figure["layout"]["xaxis"]["autorangeoptions"]["clipmin"] == 3


def test_layers_stand_in_the_models_order_from_the_top():
    figure = checked(draw_heatmap(scene()).figure)
    assert colours(figure)["y"] == list(NAMES)
    low, high = figure["layout"]["yaxis"]["range"]
    assert low > high
    assert figure["layout"]["yaxis"]["categoryarray"] == list(NAMES)


def test_colours_are_powers_of_ten_between_the_panels_limits():
    trace = colours(checked(draw_heatmap(scene()).figure))
    np.testing.assert_allclose(plain_array(trace["z"])[0], np.log10([1e-3, 2e-3, 3e-3]), rtol=1e-6)
    assert (trace["zmin"], trace["zmax"]) == (-5, -1)
    assert trace["colorbar"]["ticktext"] == [f"10<sup>{power}</sup>" for power in range(-5, 0)]


def test_without_limits_the_values_make_the_colours():
    trace = colours(checked(draw_heatmap(scene([[1.0, 2.0, 3.0]], log=False, limits=None)).figure))
    assert (trace["zmin"], trace["zmax"]) == (1, 3)


def test_what_is_missing_or_has_no_logarithm_is_a_gap():
    z = plain_array(colours(draw_heatmap(scene()).figure)["z"])
    assert np.isnan(z[1]).tolist() == [True, False, True]


def test_nan_and_infinities_stand_over_the_colours_in_red_behind_a_cross_and_are_counted():
    column = layers("ratio", [[1.0, 2.0], [math.nan, math.inf], [3.0, math.inf]], ("a", "b"))
    column = replace(column, missing=np.zeros((3, 2), bool))
    drawing = draw_heatmap(Scene(panel("heatmap"), ("ratio",), {"ratio": column}))
    odd = [trace for trace in checked(drawing.figure)["data"] if trace["type"] == "heatmap"][1]
    assert np.isfinite(plain_array(odd["z"])).tolist() == [[False, True, False], [False, True, True]]
    (crosses,) = curves(drawing.figure, "markers")
    assert (plain_array(crosses["x"]).tolist(), plain_array(crosses["y"]).tolist()) == ([10, 10], [0, 1])
    assert {colour for _, colour in odd["colorscale"]} == {LIGHT.alarm}
    assert drawing.words == "NaN or infinite in 3 cells, which are red and begin with a cross"


def test_crosses_are_so_few_that_they_hide_nothing():
    values = np.ones((100, 20))
    values[::2] = math.inf
    names = [f"layer{place}" for place in range(20)]
    column = replace(layers("ratio", values, names), missing=np.zeros(values.shape, bool))
    (crosses,) = curves(checked(draw_heatmap(Scene(panel("heatmap"), ("ratio",), {"ratio": column})).figure), "markers")
    assert MOST_CROSSES / 2 < len(plain_array(crosses["x"])) <= MOST_CROSSES


def test_the_outermost_hundredth_does_not_bleach_the_rest():
    values = np.ones((50, 4)) + np.arange(4)
    values[7, 2] = 1e9
    trace = colours(draw_heatmap(scene(values, log=False, limits=None, names="abcd")).figure)
    assert (trace["zmin"], trace["zmax"]) == (1, 4)


def test_of_less_than_a_power_of_ten_the_legend_tells_values():
    legend = colours(draw_heatmap(scene([[2.0, 3.0, 8.0]], limits=None)).figure)["colorbar"]
    assert legend["ticktext"] == ["2", "3.2", "5", "8"]


def test_rows_of_one_name_stay_apart():
    assert colours(draw_heatmap(scene(names=("fc", "fc", "fc"))).figure)["y"] == ["fc", "fc (2)", "fc (3)"]


def test_names_are_no_markup_cut_beside_the_rows_and_whole_under_the_pointer():
    names = ("<b>a</b>.weight", "encoder.layers.11.self_attention.projection.weight", "c")
    layout = checked(draw_heatmap(scene(names=names), name=17).figure)["layout"]
    assert layout["yaxis"]["categoryarray"] == ["&lt;b&gt;a&lt;/b&gt;.weight", *names[1:]]
    assert layout["yaxis3"]["ticktext"] == ["&lt;b&gt;a&lt;/b&gt;.weight", "encoder.…n.weight", "c"]
    assert (layout["yaxis"]["showticklabels"], "labelalias" in layout["yaxis"]) == (False, False)


@pytest.mark.parametrize(("rows", "named"), [(3, [0, 1, 2]), (4, [0, 1, 2, 3]), (5, [0, 2, 4]), (9, [0, 3, 6])])
def test_names_stand_at_their_rows_and_where_they_are_many_at_even_distances(rows, named):
    layers = tuple(f"layer{place}" for place in range(rows))
    layout = draw_heatmap(scene([[1.0] * rows], names=layers), most_names=4).figure["layout"]
    assert layout["yaxis3"]["tickvals"] == named
    assert layout["yaxis3"]["ticktext"] == [layers[place] for place in named]
    assert layout["yaxis3"]["range"] == layout["yaxis"]["range"] == [rows - 0.5, -0.5]


def test_axes_have_names():
    layout = draw_heatmap(scene(ylabel="‖s‖ / ‖θ‖")).figure["layout"]
    assert (layout["xaxis"]["title"]["text"], layout["yaxis3"]["title"]["text"]) == ("step", "layer")
    assert colours(draw_heatmap(scene(ylabel="size")).figure)["colorbar"]["title"]["text"] == "size"


def test_the_extreme_layers_of_the_selected_step_are_said():
    hidden = "in 1 cells values at or below 0, which have no colour on a logarithmic scale"
    assert draw_heatmap(scene()).words == f"Step 20: 0.003 in conv.weight to 1 in fc.weight; {hidden}"
    assert draw_heatmap(scene(step=15)).words == f"Step 10: 1.00e−5 in conv.bias to 0.1 in fc.weight; {hidden}"
    assert draw_heatmap(scene(step=-5)).words == hidden


def test_a_step_that_is_missing_in_all_layers_is_said():
    assert draw_heatmap(scene([[math.nan] * 3])).words == "Step 0: missing in all layers"


def test_a_selected_step_has_a_line_and_a_veil():
    shapes = checked(draw_heatmap(scene(step=10)).figure)["layout"]["shapes"]
    assert {(shape["type"], shape["x0"]) for shape in shapes} == {("rect", 10), ("line", 10)}


def test_events_stand_below():
    figure = checked(draw_heatmap(scene(events=[event("learning_rate", 10, "0.1 → 0.01")])).figure)
    assert [trace["text"] for trace in figure["data"] if trace.get("name") == "learning rate"] == [["0.1 → 0.01"]]


@pytest.mark.parametrize("measure", MEASURES)
def test_every_axis_of_time_can_be_drawn(measure):
    figure = checked(draw_heatmap(scene(measure=measure, step=10)).figure)
    edges = plain_array(colours(figure)["x"])
    assert (np.diff(edges) > 0).all()
    assert measure != "log" or (edges > 0).all()


def test_the_shared_pointer_finds_how_far_the_layers_reach():
    figure = draw_heatmap(scene()).figure
    (pointer,) = [trace for trace in figure["data"] if trace.get("mode") == "lines"]
    assert pointer["text"][0] == "layers 0.001 to 0.01"
    assert plain_array(pointer["x"]).tolist() == [0, 10, 20]
    assert figure["layout"]["meta"] == {"cursor": [f"x{pointer['yaxis']}"]}
