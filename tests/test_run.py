import sys
from pathlib import Path

import numpy as np
import pytest

from cockpit.reading import Histogram, Histogram2d, Reading
from cockpit.run import list_runs, load_run
from cockpit.store import Header, UnreadableLog, Writer

EDGES = np.linspace(-1, 1, 4)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    writer = Writer(tmp_path / "runs" / "mnist-sgd", Header("mnist-sgd", 1.7e9, config={"lr": 0.1}, tags=("first",)))
    for step in range(0, 50, 10):
        histogram = Histogram(np.array([step, 1, 2]), EDGES)
        readings = {
            "norm_test": Reading(float(step) if step else None, {"a": 1.0 * step, "b": None}, {"theta": 0.5}),
            "grad_hist_1d": Reading(histogram if step else None, {"a": histogram}),
            "noise": Reading(None, {"a": 1.0}) if step == 40 else Reading(1.0),
        }
        writer.put(step, 0.1 * step, readings)
        writer.scalars(step + 5, 0.1 * step, {"valid/accuracy": 0.5})
    writer.close()
    return tmp_path / "runs" / "mnist-sgd"


def test_a_quantity_comes_back_as_columns(directory: Path) -> None:
    quantity = load_run(directory)["norm_test"]
    assert list(quantity.steps) == [0, 10, 20, 30, 40]
    np.testing.assert_allclose(quantity.times, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(quantity.values, [np.nan, 10, 20, 30, 40])
    assert list(quantity.missing) == [True, False, False, False, False]
    assert quantity.layers is not None
    assert quantity.layers.names == ("a", "b")
    np.testing.assert_array_equal(quantity.layers.values[:, 0], quantity.steps)
    assert quantity.layers.missing[:, 1].all()


def test_layers_are_none_where_a_quantity_has_none(directory: Path) -> None:
    assert load_run(directory)["norm_test.theta"].layers is None


def test_layers_have_steps_of_their_own(directory: Path) -> None:
    noise = load_run(directory)["noise"]
    assert len(noise.steps) == 5
    assert noise.layers is not None
    assert list(noise.layers.steps) == [40]


def test_a_quantity_that_is_only_layer_wise_has_no_network_wise_values(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Header("run", 0.0))
    writer.put(1, 0.0, {"test": Reading(1.0, parts={"band": {"a": 2.0}})})
    writer.close()
    band = load_run(tmp_path)["test.band"]
    assert len(band.values) == len(band.steps) == 0
    assert band.layers is not None
    assert band.layers.values.tolist() == [[2.0]]


def test_histograms_come_back_as_counts_and_edges(directory: Path) -> None:
    histograms = load_run(directory)["grad_hist_1d"]
    assert histograms.values.tolist() == [[0, 0, 0], [10, 1, 2], [20, 1, 2], [30, 1, 2], [40, 1, 2]]
    assert histograms.missing.tolist() == [True, False, False, False, False]
    assert histograms.edges is not None
    np.testing.assert_array_equal(histograms.edges, EDGES)
    assert histograms.layers is not None
    assert histograms.layers.values.shape == (5, 1, 3)


def test_histograms_of_pairs_come_back_with_the_edges_of_both_axes(tmp_path: Path) -> None:
    pairs = Histogram2d(np.arange(6).reshape(2, 3), EDGES[:3], EDGES)
    writer = Writer(tmp_path / "run", Header("run", 0.0))
    writer.put(0, 0.0, {"grad_hist_2d": Reading(pairs, {"a": pairs, "b": None})})
    writer.close()
    run = load_run(tmp_path / "run")
    logged = run["grad_hist_2d"]
    assert logged.values.tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert logged.layers is not None
    assert logged.layers.values.shape == (1, 2, 2, 3)
    for found in (logged, logged.layers):
        np.testing.assert_array_equal(found.edges, EDGES[:3])
        np.testing.assert_array_equal(found.y_edges, EDGES)
    at = run.at(0)["grad_hist_2d"]
    assert isinstance(at, Histogram2d)
    gradients, parameters = at.marginals
    assert (gradients.counts.tolist(), parameters.counts.tolist()) == ([3, 12], [3, 5, 7])
    np.testing.assert_array_equal(parameters.edges, EDGES)


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (6,), (3, 2)])
def test_counts_of_pairs_have_one_edge_more_than_bins_on_either_axis(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(4,\) edges do not bound counts of shape"):
        Histogram2d(np.zeros(shape, np.int64), EDGES[:3], EDGES)


def test_a_run_says_what_it_is(directory: Path) -> None:
    run = load_run(directory)
    assert (run.name, run.config, run.tags, run.state) == ("mnist-sgd", {"lr": 0.1}, ("first",), "finished")
    assert run.keys() == ["norm_test", "norm_test.theta", "grad_hist_1d", "noise", "valid/accuracy"]
    assert "noise" in run
    assert "loss" not in run
    assert repr(run) == "Run('mnist-sgd', finished, 5 keys)"


def test_the_state_at_a_step_is_the_last_point_of_each_key(directory: Path) -> None:
    run = load_run(directory)
    assert run.at(0) == {"norm_test": None, "norm_test.theta": 0.5, "grad_hist_1d": None, "noise": 1.0}
    later = run.at(27)
    assert (later["norm_test"], later["valid/accuracy"]) == (20.0, 0.5)
    histogram = later["grad_hist_1d"]
    assert isinstance(histogram, Histogram)
    assert histogram.counts.tolist() == [20, 1, 2]
    assert run.at(-1) == {}


def test_a_table_has_one_row_for_each_step_and_one_column_for_each_scalar(directory: Path) -> None:
    frame = load_run(directory).to_pandas()
    assert list(frame.columns) == ["norm_test", "norm_test.theta", "noise", "valid/accuracy"]
    assert list(frame.index) == sorted([*range(0, 50, 10), *range(5, 55, 10)])
    assert frame.index.name == "step"
    assert frame.loc[20, "norm_test"] == 20.0
    assert np.isnan(frame.loc[25, "norm_test"])


def test_without_pandas_a_table_says_what_to_install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        load_run(directory).to_pandas()


def test_a_run_opens_by_its_directory_or_its_file(directory: Path) -> None:
    assert load_run(str(directory)).keys() == load_run(directory / "rank0.db").keys()


def test_a_run_that_is_not_there_names_those_that_are(directory: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"did you mean .*mnist-sgd\? In .* there are: mnist-sgd"):
        load_run(directory.parent / "mnist-sdg")
    with pytest.raises(FileNotFoundError, match=r"holds no run; In .*runs there are: mnist-sgd"):
        load_run(directory.parent)
    with pytest.raises(FileNotFoundError, match="There are no runs in"):
        load_run(directory.parent / "nowhere" / "run")


def test_a_foreign_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing of interest " * 100)
    with pytest.raises(UnreadableLog, match="not a log of Cockpit"):
        load_run(tmp_path / "notes.txt")


def test_an_unknown_key_names_the_nearest(directory: Path) -> None:
    with pytest.raises(KeyError, match="did you mean 'norm_test'"):
        load_run(directory)["normtest"]


def test_a_live_run_shows_later_points_when_asked_again(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Header("run", 0.0))
    try:
        run = load_run(tmp_path)
        for step in range(3):
            writer.put(step, 0.0, {"loss": Reading(1.0)})
            assert writer.flush()
            assert len(run["loss"].steps) == step + 1
        assert run.state == "running"
    finally:
        writer.close()


def test_runs_are_listed(directory: Path) -> None:
    assert [summary.name for summary in list_runs(directory.parent)] == ["mnist-sgd"]
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        list_runs(directory.parent / "nowhere")
