import numpy as np
from drawn import checked, pairs, panel, plain_array, scalars

from cockpit.dashboard.histogram2d import draw_histogram2d
from cockpit.dashboard.scene import Scene
from cockpit.store import Column

X, Y = [-1.0, 0.0, 1.0], [0.0, 1.0, 2.0, 3.0]
COUNTS = [[1, 0, 10], [100, 1000, 0]]


def scene(*columns, log=True, step=None, clock="", **settings):
    keys = tuple(column.key for column in columns if column.kind == "histogram2d") or ("grad_hist_2d",)
    by_key = {column.key: column for column in columns}
    return Scene(panel("histogram2d", **settings), keys, by_key, log=log, step=step, clock=clock)


def drawn(*columns, **options):
    return checked(draw_histogram2d(scene(*columns, **options)).figure)


def test_no_histogram_says_when_one_is_expected():
    drawing = draw_histogram2d(scene(clock="Appears with step 10."))
    assert checked(drawing.figure)["data"] == []
    assert drawing.empty == "Appears with step 10."


def test_a_missing_histogram_is_no_histogram():
    steps, edges = np.array([3]), np.full((1, 1), np.nan)
    nothing = Column(
        "h", "histogram2d", steps, steps * 0.1, np.zeros((1, 0, 0), int), np.array([True]), (), edges, edges
    )
    assert draw_histogram2d(scene(nothing)).empty == "The histogram is missing at this step."


def test_colours_are_logarithms_of_the_counts_between_their_edges_and_nothing_where_there_are_none():
    colours, _, _ = drawn(pairs("h", COUNTS, X, Y))["data"]
    assert plain_array(colours["x"]).tolist() == X
    assert plain_array(colours["y"]).tolist() == Y
    np.testing.assert_allclose(plain_array(colours["z"]), [[0, 2], [np.nan, 3], [1, np.nan]])
    assert colours["text"] == [["−1 to 0<br>0 to 1: 1", "0 to 1<br>0 to 1: 100"], ["", "0 to 1<br>1 to 2: 1,000"],
                               ["−1 to 0<br>2 to 3: 10", ""]]  # fmt: skip


def test_colours_are_counts_where_the_reader_wants_them_linear():
    colours, above, _ = drawn(pairs("h", COUNTS, X, Y), log=False)["data"]
    np.testing.assert_allclose(plain_array(colours["z"]), [[1, 100], [np.nan, 1000], [10, np.nan]])
    assert (colours["zmin"], colours["zmax"]) == (0, 1000)
    assert above["yaxis"] == "y2"
    assert drawn(pairs("h", COUNTS, X, Y), log=False)["layout"]["yaxis2"]["type"] == "linear"


def test_a_legend_says_how_many_pairs_the_colours_stand_for():
    colours, _, _ = drawn(pairs("h", COUNTS, X, Y))["data"]
    assert colours["colorbar"]["ticktext"] == ["1", "10<sup>3</sup>"]
    assert colours["colorbar"]["tickvals"] == [0, 3]
    colours, _, _ = drawn(pairs("h", COUNTS, X, Y), log=False)["data"]
    assert colours["colorbar"]["ticktext"] == ["0", "1,000"]


def test_marginals_stand_above_and_beside_and_share_the_axes():
    figure = drawn(pairs("h", COUNTS, X, Y))
    _, above, beside = figure["data"]
    assert plain_array(above["y"]).tolist() == [11, 1100]
    assert plain_array(above["x"]).tolist() == [-0.5, 0.5]
    assert plain_array(beside["x"]).tolist() == [101, 1000, 10]
    assert plain_array(beside["y"]).tolist() == [0.5, 1.5, 2.5]
    assert (above["orientation"], beside["orientation"]) == ("v", "h")
    layout = figure["layout"]
    assert (layout["xaxis2"]["matches"], layout["yaxis3"]["matches"]) == ("x", "y")
    assert layout["yaxis2"]["domain"][0] > layout["yaxis"]["domain"][1]
    assert layout["xaxis3"]["domain"][0] > layout["xaxis"]["domain"][1]


def test_step_total_and_share_at_the_edge_are_said():
    inside = np.zeros((4, 4), int)
    inside[1, 2], inside[0, 1], inside[2, 3] = 98, 1, 1
    column = pairs("h", inside, np.linspace(-1, 1, 5), np.linspace(-2, 2, 5), step=7)
    said = "Step 7: 100 pairs, 2 % of them in bins at the edge (clipped to [−1, 1] × [−2, 2])"
    assert draw_histogram2d(scene(column)).words == said
    part = draw_histogram2d(scene(column, scalars("h.samples", [32], [7]))).words
    assert part.startswith("Step 7: 100 pairs of 32 samples, 2 %")


def test_no_pairs_have_no_share():
    drawing = draw_histogram2d(scene(pairs("h", [[0, 0]], [0, 1], [0, 1, 2])))
    assert checked(drawing.figure)["data"]
    assert drawing.words == "Step 0: 0 pairs"


def test_edges_that_change_from_step_to_step_are_the_rows_own():
    steps = np.array([0, 10])
    x, y = np.array([[0.0, 1.0, 2.0], [0.0, 4.0, 4.0]]), np.array([0.0, 5.0])
    column = Column(
        "h", "histogram2d", steps, steps * 0.1, np.array([[[1], [2]], [[3], [0]]]), np.zeros(2, bool), (), x, y
    )
    colours, *_ = drawn(column, step=12)["data"]
    assert plain_array(colours["x"]).tolist() == [0, 4]
    assert plain_array(colours["z"]).tolist() == [[np.float32(np.log10(3))]]


def test_several_stand_below_each_other():
    figure = drawn(pairs("a", COUNTS, X, Y), pairs("b", COUNTS, X, Y))
    assert [trace["yaxis"] for trace in figure["data"]] == ["y", "y2", "y3", "y4", "y5", "y6"]
    assert figure["layout"]["yaxis5"]["domain"][1] < figure["layout"]["yaxis"]["domain"][0]


def test_axes_have_the_panels_names():
    layout = drawn(pairs("h", COUNTS, X, Y), xlabel="gradient element", ylabel="parameter")["layout"]
    assert layout["xaxis"]["title"]["text"] == "gradient element"
    assert layout["yaxis"]["title"]["text"] == "parameter"
