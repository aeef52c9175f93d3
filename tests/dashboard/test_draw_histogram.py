import numpy as np
from drawn import checked, histogram, panel, plain_array, scalars

from cockpit.dashboard.histogram import draw_histogram
from cockpit.dashboard.scene import Scene
from cockpit.store import Column

EDGES = [-1.0, -0.5, 0.0, 0.5, 1.0]


def scene(*columns, log=False, step=None, clock=""):
    keys = tuple(column.key for column in columns) or ("grad_hist_1d",)
    by_key = {column.key: column for column in columns}
    return Scene(panel("histogram"), keys, by_key, log=log, step=step, clock=clock)


def test_no_histogram_says_when_one_is_expected():
    drawing = draw_histogram(scene(clock="Appears with step 10."))
    assert checked(drawing.figure)["data"] == []
    assert drawing.empty == "Appears with step 10."


def test_a_missing_histogram_is_no_histogram():
    nothing = Column(
        "h", "histogram", np.array([3]), np.array([0.3]), np.zeros((1, 0), np.int64), np.array([True]),
        edges=np.full((1, 1), np.nan),
    )  # fmt: skip
    assert draw_histogram(scene(nothing)).empty == "The histogram is missing at this step."


def test_bars_stand_between_their_edges():
    (bars,) = checked(draw_histogram(scene(histogram("h", [1, 2, 3, 4], EDGES))).figure)["data"]
    assert plain_array(bars["x"]).tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert plain_array(bars["width"]).tolist() == [0.5] * 4
    assert plain_array(bars["y"]).tolist() == [1, 2, 3, 4]
    assert bars["text"][0] == "−1 to −0.5"


def test_total_and_clipped_share_are_said():
    words = draw_histogram(scene(histogram("h", [1, 60, 138, 1], EDGES, step=7))).words
    assert words == "Step 7: 200 elements, 1 % of them in the end bins (clipped to [−1, 1])"


def test_an_empty_histogram_has_no_share():
    assert draw_histogram(scene(histogram("h", [0, 0, 0, 0], EDGES))).words == "Step 0: 0 elements"


def test_a_small_clipped_share_is_not_rounded_to_nothing():
    assert "under 0.1 %" in draw_histogram(scene(histogram("h", [1, 10**6, 10**6, 0], EDGES))).words


def test_log_counts_reach_from_below_one_to_the_total():
    figure = checked(draw_histogram(scene(histogram("h", [0, 10, 89, 1], EDGES), log=True)).figure)
    axis = figure["layout"]["yaxis"]
    assert (axis["type"], axis["autorangeoptions"]) == ("log", {"include": [0.5, 130]})


def test_the_end_bins_are_hatched():
    (bars,) = draw_histogram(scene(histogram("h", [1, 2, 3, 4], EDGES))).figure["data"]
    assert bars["marker"]["pattern"]["shape"] == ["/", "", "", "/"]


def test_counts_beyond_32_bits_are_exact():
    (bars,) = draw_histogram(scene(histogram("h", [0, 2**40 + 1, 0, 0], EDGES))).figure["data"]
    assert plain_array(bars["y"])[1] == 2**40 + 1


def test_edges_that_change_from_step_to_step_are_the_rows_own():
    steps = np.array([0, 10])
    edges = np.array([[0.0, 1.0, 2.0], [0.0, 4.0, 4.0]])  # the second has one bin; the other only fills up
    column = Column(
        "h", "histogram", steps, steps * 0.1, np.array([[1, 2], [3, 0]]), np.array([False, False]), edges=edges
    )
    (bars,) = draw_histogram(scene(column, step=12)).figure["data"]
    assert plain_array(bars["y"]).tolist() == [3]
    assert plain_array(bars["width"]).tolist() == [4.0]


def test_several_histograms_stand_below_each_other():
    figure = checked(draw_histogram(scene(histogram("a", [1] * 4, EDGES), histogram("b", [2] * 4, EDGES))).figure)
    assert [bars["yaxis"] for bars in figure["data"]] == ["y", "y2"]
    assert figure["layout"]["yaxis2"]["domain"][1] < figure["layout"]["yaxis"]["domain"][0]


def test_axes_have_names():
    layout = draw_histogram(scene(histogram("h", [1] * 4, EDGES))).figure["layout"]
    assert layout["xaxis"]["title"]["text"] == "value (h)"
    assert layout["yaxis"]["title"]["text"] == "elements"


def test_zeros_that_a_histogram_has_no_place_for_are_said():
    column, zeros = histogram("h", [0, 3, 1, 0], EDGES), scalars("h.zeros", [0.25])
    drawn = draw_histogram(Scene(panel("histogram"), ("h",), {"h": column, "h.zeros": zeros}))
    assert drawn.words.endswith("; 25 % are zero")


def test_the_axis_of_a_histogram_is_named_by_its_panel():
    column = histogram("h", [0, 3, 1, 0], EDGES)
    drawn = draw_histogram(Scene(panel("histogram", xlabel="log₂ |element|"), ("h",), {"h": column}))
    assert drawn.figure["layout"]["xaxis"]["title"]["text"] == "log₂ |element|"


def test_a_part_of_the_samples_is_said_to_be_one():
    columns = histogram("h", [1, 2, 3, 4], EDGES, step=7), scalars("h.samples", [64, 32], [3, 7])
    by_key = {column.key: column for column in columns}
    words = draw_histogram(Scene(panel("histogram"), ("h",), by_key)).words
    assert words.startswith("Step 7: 10 elements of 32 samples, ")
