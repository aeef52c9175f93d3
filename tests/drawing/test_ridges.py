import numpy as np

from cockpit.drawing.ridges import FIRST, MOST_LAYERS, ZEROS, ridges_of
from cockpit.store import Column

EDGES = np.array([-3.0, -2.0, -1.0, 0.0])


def histograms(counts, step=0, missing=None, names=None, edges=EDGES):
    table = np.array([counts], np.int64)
    names = names or tuple(f"layer{place}" for place in range(table.shape[1]))
    missing = np.zeros((1, len(names)), bool) if missing is None else np.array([missing])
    return Column("logs", "layer_histograms", np.array([step]), np.array([0.1]), table, missing, names, edges)


def zeros(values, step=0):
    names = tuple(f"layer{place}" for place in range(len(values)))
    table = np.array([values], float)
    return Column("logs" + ZEROS, "layers", np.array([step]), np.array([0.1]), table, np.isnan(table), names)


def test_heights_are_shares_of_a_layers_elements():
    ridges = ridges_of({"logs": histograms([[1, 3, 0], [0, 0, 5]])}, "logs", None)
    assert [ridge.heights.tolist() for ridge in ridges.layers] == [[0.25, 0.75, 0], [0, 0, 1]]
    assert ridges.centres.tolist() == [-2.5, -1.5, -0.5]
    assert [ridge.highest for ridge in ridges.layers] == [0.75, 1]


def test_the_first_step_is_a_ghost_from_then_on():
    columns = {"logs": histograms([[0, 4, 0]], step=9), "logs" + FIRST: histograms([[4, 0, 0]])}
    ridges = ridges_of(columns, "logs", 9)
    assert (ridges.step, ridges.first) == (9, 0)
    assert ridges.layers[0].ghost.tolist() == [1, 0, 0]
    again = {"logs": columns["logs" + FIRST], "logs" + FIRST: columns["logs" + FIRST]}
    assert ridges_of(again, "logs", 0).first is None
    assert ridges_of(again, "logs", 0).layers[0].ghost is None


def test_a_ghost_in_other_bins_is_left_out():
    wide = histograms([[1, 1, 1, 1]], edges=np.array([-4.0, -3.0, -2.0, -1.0, 0.0]))
    ridges = ridges_of({"logs": histograms([[0, 4, 0]], step=9), "logs" + FIRST: wide}, "logs", 9)
    assert ridges.layers[0].ghost is None


def test_a_layer_of_zeros_alone_has_no_ridge_but_its_share():
    columns = {"logs": histograms([[0, 0, 0], [1, 0, 0]]), "logs" + ZEROS: zeros([1.0, 0.25])}
    ridges = ridges_of(columns, "logs", None)
    assert [ridge.heights is None for ridge in ridges.layers] == [True, False]
    assert [ridge.zeros for ridge in ridges.layers] == [1.0, 0.25]


def test_a_missing_layer_has_no_ridge():
    ridges = ridges_of({"logs": histograms([[1, 0, 0], [1, 0, 0]], missing=[True, False])}, "logs", None)
    assert [ridge.heights is None for ridge in ridges.layers] == [True, False]


def test_edges_may_differ_between_points():
    column = histograms([[1, 0, 0]], edges=np.tile(EDGES, (1, 1, 1)))
    assert ridges_of({"logs": column}, "logs", None).centres.tolist() == [-2.5, -1.5, -0.5]


def test_nothing_before_the_first_histogram():
    assert ridges_of({"logs": histograms([[1, 0, 0]], step=5)}, "logs", 4) is None
    assert ridges_of({}, "logs", None) is None


def test_of_many_layers_weights_are_shown_and_the_others_counted():
    names = tuple(f"blocks.{place}.{part}" for place in range(30) for part in ("weight", "bias"))
    ridges = ridges_of({"logs": histograms([[1, 0, 0]] * 60, names=names)}, "logs", None)
    assert len(ridges.layers) == MOST_LAYERS
    assert ridges.left_out == 60 - MOST_LAYERS
    assert ridges.layers[0].layer == names[0]
    assert all(ridge.layer.endswith("weight") for ridge in ridges.layers)


def test_of_many_layers_one_that_stands_out_is_shown():
    names = tuple(f"blocks.{place}.weight" for place in range(100))
    counts = [[0, 90 + place % 3, 10 - place % 3] for place in range(100)]
    usual = [ridge.layer for ridge in ridges_of({"logs": histograms(counts, names=names)}, "logs", None).layers]
    for odd in range(100):
        strange = [[100, 0, 0] if place == odd else row for place, row in enumerate(counts)]
        shown = [ridge.layer for ridge in ridges_of({"logs": histograms(strange, names=names)}, "logs", None).layers]
        assert names[odd] in shown
        assert len(shown) == MOST_LAYERS
        assert len(set(usual) - set(shown)) <= 1
