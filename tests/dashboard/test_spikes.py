"""In a run of many more readings than a drawing has room for, one that stands out is in every drawing over time."""

import numpy as np
import pytest
from drawn import checked, panel, plain_array, scalars
from layered import EDGES

from cockpit.dashboard import folds
from cockpit.dashboard.compared import band_traces
from cockpit.dashboard.heatmap import draw_heatmap
from cockpit.dashboard.layer_data import LayerData
from cockpit.dashboard.scene import Scene
from cockpit.dashboard.source import MOST_POINTS, Source
from cockpit.drawing.layer_table import Row
from cockpit.drawing.strip import EDGES as ROWS
from cockpit.drawing.strip import strip_of
from cockpit.panel import LayerColumn
from cockpit.reading import Histogram, Reading
from cockpit.store import Header, Reader, Writer

READINGS, AT = 2500, 1237
LAYERS = ("a", "b")


def histogram(centre):
    counts, _ = np.histogram(np.full(50, centre), EDGES)
    return Histogram(counts.astype(np.int64), EDGES)


def readings(step, random):
    ratios = dict(zip(LAYERS, (1e-3 * random.lognormal(0, 0.1, 2)).tolist(), strict=True))
    centres = dict.fromkeys(LAYERS, -10.5)
    if step == AT:
        ratios["b"], centres["b"] = 0.5, -1.5
    if step == AT + 400:
        ratios["a"] = float("nan")
    return {
        "ratio": Reading(1.0, ratios),
        "logs": Reading(None, {name: histogram(centre) for name, centre in centres.items()}),
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    place = tmp_path_factory.mktemp("spikes") / "run"
    writer = Writer(place, Header("run", 0.0), capacity=10 * READINGS)
    random, found = np.random.default_rng(0), None
    for step in range(READINGS):
        writer.put(step, 0.1 * step, readings(step, random))
        if step in (AT - 200, AT + 1):  # as a page that is open all the while
            assert writer.flush()
            found = found or Source(Reader(place))
            found.refresh()
            found.layers("ratio")
    writer.close()
    assert found is not None
    found.refresh()
    return found


def shown_at(column, step):
    return column.values[np.flatnonzero((column.begins <= step) & (step <= column.steps))[0]]


@pytest.mark.parametrize("log", [True, False])
def test_in_heat_maps(source, log):
    column = source.layers("ratio", log=log)
    assert len(column) <= 300
    assert shown_at(column, AT)[1] == pytest.approx(0.5)
    assert np.isnan(shown_at(column, AT + 400)[0])
    drawing = draw_heatmap(Scene(panel("heatmap"), ("ratio",), {"ratio": column}, log=log))
    assert "NaN or infinite in 1 cells" in drawing.words
    shade = plain_array(checked(drawing.figure)["data"][0]["z"])
    assert np.nanmax(shade) == pytest.approx(np.log10(0.5) if log else 0.5)


def test_whatever_the_portions_it_is_read_in(source, monkeypatch):
    monkeypatch.setattr(folds, "PORTION", 97)
    again = Source(source.reader)
    for name, value in vars(source.layers("ratio")).items():
        np.testing.assert_equal(getattr(again.layers("ratio"), name), value)


def test_in_the_map_of_layers(source):
    data = LayerData(source)
    rows = [Row("a", (0,)), Row("b", (1,))]
    column = data.over_time(LayerColumn("Ratio", "ratio", scale="log"), rows)
    assert shown_at(column, AT)[1] == pytest.approx(0.5)
    folded = data.over_time(LayerColumn("Ratio", "ratio", scale="log"), [Row("both", (0, 1))])
    assert np.isnan(shown_at(folded, AT + 400)[0])


def test_in_the_curve_of_one_layer(source):
    column = source.layer("ratio", "b")
    assert len(column) <= 2 * MOST_POINTS
    assert column.values[column.steps == AT].tolist() == pytest.approx([0.5])
    other = source.layer("ratio", "a")
    assert np.isnan(other.values[other.steps == AT + 400]).all()
    assert AT + 400 in other.steps


def test_in_the_histograms_of_one_layer(source):
    column = LayerData(source).histograms("logs", "b")[""]
    assert AT in column.steps
    assert len(column) <= 240


def test_in_the_strip_of_step_sizes():
    values = np.random.default_rng(0).normal(0, 0.01, READINGS)
    values[AT] = 1.2
    column = scalars("alpha", values.tolist(), range(READINGS))
    strip = strip_of(column, np.full(READINGS, "minimum"), column.steps)
    row = int(np.searchsorted(ROWS, 1.2)) - 1
    assert np.flatnonzero(strip.shares[row] > 0).tolist() == [int(np.searchsorted(strip.edges, AT)) - 1]


def test_in_a_band_whose_edges_are_thinned_by_their_own_extremes():
    low, high = scalars("low", [1.0] * 9, range(0, 90, 10)), scalars("high", [2.0, 2.0, 50.0, 2.0], [0, 33, 34, 80])
    scene = Scene(panel(band=("low", "high")), ("x",), {"low": low, "high": high})
    (area,) = band_traces(scene)
    assert plain_array(area["y"]).max() == 50
    assert 34 in plain_array(area["x"])
