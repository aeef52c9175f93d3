import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cockpit.drawing.histories import Histories, LayerCurves
from cockpit.store import Column

EDGES = np.linspace(-8.0, 8.0, 17)
SEEDS = st.integers(0, 2**32 - 1)


def every(name):
    return True


def portions(column, number):
    for rows in np.array_split(np.arange(len(column)), number):
        part = {name: getattr(column, name)[rows] for name in ("steps", "times", "values", "missing")}
        edges = column.edges if column.edges is None or column.edges.ndim == 1 else column.edges[rows]
        yield Column(column.key, column.kind, layers=column.layers, edges=edges, **part)


def numbers(values, names=("a", "b")):
    steps = np.arange(len(values))
    return Column("g", "layers", steps, steps * 0.1, values, np.zeros(values.shape, bool), names)


def histograms(centres, edges=EDGES, names=("a", "b")):
    """Of each reading and layer, where its elements lie."""
    centres = np.asarray(centres)
    bins = np.digitize(centres, EDGES) - 1
    counts = 100 * np.eye(len(EDGES) - 1, dtype=np.int64)[bins]
    steps = np.arange(len(centres))
    return Column("h", "layer_histograms", steps, steps * 0.1, counts, np.zeros(counts.shape[:2], bool), names, edges)


@given(SEEDS, st.integers(50, 600), st.integers(1, 7), st.sampled_from([1e3, -1e3, np.nan, np.inf]))
def test_no_spike_of_a_layers_curve_is_lost(seed, length, parts, spike):
    random = np.random.default_rng(seed)
    values = random.normal(size=(length, 2))
    at = int(random.integers(length))
    values[at, 1] = spike
    curves = LayerCurves(every, 20)
    for part in portions(numbers(values), parts):
        curves.add(part)
    column = curves.curves["b"]
    assert len(column) <= 40
    np.testing.assert_equal(column.values[column.steps.tolist().index(at)], spike)
    assert (np.diff(column.steps) > 0).all()
    assert (column.steps[0], column.steps[-1]) == (0, length - 1)


def test_only_the_layers_that_are_wanted_are_kept():
    curves = LayerCurves("b".__eq__, 20)
    curves.add(numbers(np.array([[1.0, 2.0]])))
    assert {name: column.values.tolist() for name, column in curves.curves.items()} == {"b": [2.0]}


@given(SEEDS, st.integers(30, 300), st.integers(1, 7), st.integers(10, 25))
def test_a_histogram_unlike_those_around_it_is_never_left_out(seed, length, parts, most):
    random = np.random.default_rng(seed)
    centres = random.integers(-1, 2, size=(length, 2)) + 0.5
    at = int(random.integers(length))
    centres[at, int(random.integers(2))] = random.choice([-7.5, 7.5])
    kept = Histories(every, most)
    for part in portions(histograms(centres), parts):
        kept.add(part)
    assert len(kept.column) <= most
    assert at in kept.column.steps
    place = kept.column.steps.tolist().index(at)
    assert (kept.column.values[place] == histograms(centres).values[at]).all()
    assert kept.column.edges.tolist() == EDGES.tolist()


def test_bins_that_change_are_kept_with_their_readings():
    centres = np.zeros((40, 1))
    edges = np.array([EDGES * (1 + step) for step in range(40)])[:, None, :]
    kept = Histories(every, 10)
    for part in portions(histograms(centres, edges, ("a",)), 4):
        kept.add(part)
    assert kept.column.edges.shape == (10, 1, 17)
    assert (kept.column.edges[:, 0] == EDGES * (1 + kept.column.steps[:, None])).all()


def test_a_layer_that_comes_later_is_missing_before():
    kept = Histories(every, 10)
    kept.add(histograms(np.zeros((2, 1)), names=("a",)))
    later = histograms(np.zeros((3, 2)), names=("b", "a"))
    kept.add(
        Column(later.key, later.kind, later.steps + 2, later.times, later.values, later.missing, later.layers, EDGES)
    )
    assert kept.column.layers == ("a", "b")
    assert kept.column.missing.tolist() == [[False, True]] * 2 + [[False, False]] * 3
