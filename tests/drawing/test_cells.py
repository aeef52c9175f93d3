import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.drawing.cells import MOST_CELLS, cells_of, columns_for, edges_around, short_names
from cockpit.drawing.stretches import Stretches
from cockpit.drawing.timeline import Timeline
from cockpit.store import Column


def layers(values, missing=None, steps=None):
    values = np.array(values, float)
    steps = np.arange(len(values)) if steps is None else np.array(steps)
    missing = np.isnan(values) if missing is None else np.array(missing)
    names = tuple(f"layer{place}" for place in range(values.shape[1]))
    return Column("ratio", "layers", steps, steps * 0.1, values, missing, names)


def test_rows_are_layers_and_columns_are_steps():
    cells = cells_of(layers([[1, 2, 3], [4, 5, 6]], steps=[10, 20]), Timeline(), log=False)
    assert cells.values.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert cells.edges.tolist() == [5, 15, 25]
    assert cells.layers == ("layer0", "layer1", "layer2")


def test_what_has_no_logarithm_is_a_gap_only_where_logarithms_are_drawn():
    column = layers([[0.0, -1.0, 2.0]])
    assert np.isnan(cells_of(column, Timeline(), log=True).values[:, 0]).tolist() == [True, True, False]
    assert np.isfinite(cells_of(column, Timeline(), log=False).values).all()


def test_missing_values_are_gaps_and_those_that_are_not_finite_are_broken():
    column = layers([[1.0, np.inf, 3.0, np.nan]], missing=[[True, False, False, False]])
    cells = cells_of(column, Timeline(), log=False)
    assert np.isnan(cells.values[:, 0]).tolist() == [True, True, False, True]
    assert cells.broken[:, 0].tolist() == [False, True, False, True]


def test_what_has_no_logarithm_is_counted_where_logarithms_are_drawn():
    column = layers([[0.0, -1.0, 2.0]])
    assert [cells_of(column, Timeline(), log=log).hidden for log in (True, False)] == [2, 0]


@pytest.mark.parametrize("measure", ["step", "log", "wall", "relative"])
def test_cells_reach_over_all_readings_of_their_stretches(measure):
    stretches, steps = Stretches(10), np.arange(3, 90)
    stretches.add(layers(np.ones((87, 1)), steps=steps))
    timeline = Timeline(measure, steps.astype(float), steps * 0.1, 1000.0)
    column = stretches.column("ratio", log=False)
    edges = cells_of(column, timeline, log=False).edges
    for place, (begin, end) in enumerate(zip(column.begins, column.steps, strict=True)):
        assert edges[place] < timeline.at(begin) <= timeline.at(end) < edges[place + 1]


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=30, unique=True), st.booleans())
def test_each_place_lies_between_its_edges(places, log):
    at = np.sort(np.array(places))
    at = at[np.append(True, np.diff(at) > 1e-6 * at[1:])]
    edges = edges_around(at, at, log)
    assert len(edges) == len(at) + 1
    assert (edges[:-1] < at).all()
    assert (at < edges[1:]).all()
    assert not log or (edges > 0).all()


@pytest.mark.parametrize("number", [1, 10, 100, 1000])
def test_the_cells_of_a_panel_are_bounded(number):
    assert 40 <= columns_for(number) <= max(40, MOST_CELLS // number)


def test_long_names_are_cut_in_the_middle():
    assert short_names(["fc.bias", "encoder.layers.0.weight"], 10) == ["fc.bias", "enco…eight"]


@pytest.mark.parametrize(("length", "apart"), [(18, 4), (17, 2), (12, 2), (3, 1)])
def test_names_are_cut_where_they_look_like_fewest_others(length, apart):
    names = [f"blocks.{block}.attend.{part}.weight" for block in (0, 1) for part in ("query", "key")]
    assert len(set(short_names(names, length))) == apart
    assert {len(name) for name in short_names(names, length)} == {length}


@given(st.lists(st.text("ab.", max_size=9), max_size=6, unique=True), st.integers(1, 8))
def test_names_that_some_cut_tells_from_all_others_do_not_look_like_them(names, length):
    long = [name for name in names if len(name) > length]
    short = dict(zip(names, short_names(names, length), strict=True))
    assert [name for name in names if short[name] != name] == long
    for name in long:
        ends = [(name[:head], name[len(name) - (length - 1 - head) :]) for head in range(length)]
        told = [all(not (other.startswith(head) and other.endswith(tail)) for other in long if other != name)
                for head, tail in ends]  # fmt: skip
        assert not any(told) or list(short.values()).count(short[name]) == 1
