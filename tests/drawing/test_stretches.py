import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.drawing.stretches import Stretches
from cockpit.store import Column


def layers(values, missing=None, first=0, names=None):
    values = np.array(values, float)
    steps = first + np.arange(len(values))
    missing = np.zeros(values.shape, bool) if missing is None else np.array(missing)
    names = names or tuple(f"layer{place}" for place in range(values.shape[1]))
    return Column("ratio", "layers", steps, steps * 0.1, values, missing, names)


def taken_up(column, most, portions=1):
    """A long run, as it comes in."""
    stretches = Stretches(most)
    for rows in np.array_split(np.arange(len(column)), portions):
        part = {name: getattr(column, name)[rows] for name in ("steps", "times", "values", "missing")}
        stretches.add(Column("ratio", "layers", layers=column.layers, **part))
    return stretches


def own(found, step):
    """The stretch that a step is in."""
    (place,) = np.flatnonzero((found.begins <= step) & (step <= found.steps))
    return place


LONG = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "length": st.integers(12, 700),
        "most": st.integers(12, 60),
        "portions": st.integers(1, 9),
        "where": st.floats(0, 1, exclude_max=True),
    }
)


def noise(seed, length, layers=3):
    return 1 + np.random.default_rng(seed).random((length, layers))


@given(LONG, st.sampled_from([1e3, 1e-3, np.nan, np.inf, -np.inf]), st.booleans())
def test_a_spike_is_never_lost(run, spike, log):
    values = noise(run["seed"], run["length"])
    at = int(run["where"] * run["length"])
    values[at, 1] = spike if log or not 0 < spike < 1 else -1e3
    found = taken_up(layers(values), run["most"], run["portions"]).column("ratio", log=log)
    assert len(found) <= run["most"]
    place = own(found, at)
    np.testing.assert_equal(found.values[place, 1], values[at, 1])
    assert not found.missing.any()
    others = np.delete(found.values[:, 1], place)
    assert ((others >= 1) & (others <= 2)).all()
    assert ((found.values[:, [0, 2]] >= 1) & (found.values[:, [0, 2]] <= 2)).all()


@given(LONG)
def test_every_value_shown_was_read_in_its_stretch_and_each_reading_is_in_one(run):
    values = noise(run["seed"], run["length"])
    found = taken_up(layers(values), run["most"], run["portions"]).column("ratio", log=False)
    assert found.begins[0] == 0
    assert found.steps[-1] == run["length"] - 1
    assert (found.begins[1:] == found.steps[:-1] + 1).all()
    for place, (begin, end) in enumerate(zip(found.begins, found.steps, strict=True)):
        assert np.isin(found.values[place], values[begin : end + 1]).all()


@given(LONG)
def test_how_a_run_comes_in_changes_nothing(run):
    column = layers(noise(run["seed"], run["length"]))
    once, often = (taken_up(column, run["most"], parts).column("ratio", log=True) for parts in (1, run["portions"]))
    np.testing.assert_equal(vars(once), vars(often))


@given(LONG)
def test_the_furthest_of_a_stretch_from_its_level_is_shown_whatever_the_trend(run):
    length = run["length"]
    trend = np.exp(-5 * np.arange(length) / length)[:, None]
    values = trend * (1 + 0.1 * np.random.default_rng(run["seed"]).random((length, 1)))
    at = int(run["where"] * length)
    values[at] /= 100  # on a linear scale hardly to be seen, and later values are smaller
    found = taken_up(layers(values), run["most"], run["portions"]).column("ratio", log=True)
    assert found.values[own(found, at), 0] == values[at, 0]


def test_a_stretch_is_missing_where_all_of_it_is():
    missing = np.zeros((40, 1), bool)
    missing[3:12] = True
    found = taken_up(layers(np.where(missing, np.nan, 1.0), missing), 10).column("ratio", log=False)
    assert found.missing[:, 0].tolist() == [False, True, True, *[False] * 7]
    assert found.values[~found.missing].tolist() == [1.0] * 8


def test_zeros_are_told_where_logarithms_are_drawn_and_the_spike_beside_them_is_shown():
    values = np.ones((40, 1))
    values[10], values[11] = 0.0, 50.0
    found = taken_up(layers(values), 10).column("ratio", log=True)
    assert found.hidden[:, 0].tolist() == [place == 2 for place in range(10)]
    assert found.values[2, 0] == 50


def test_layers_that_come_later_are_missing_before():
    stretches = Stretches(10)
    stretches.add(layers([[1.0], [2.0]], names=("a",)))
    stretches.add(layers([[5.0, 4.0], [5.0, 3.0]], first=2, names=("b", "a")))
    found = stretches.column("ratio", log=False)
    assert found.layers == ("a", "b")
    np.testing.assert_equal(found.values, [[1, np.nan], [2, np.nan], [4, 5], [3, 5]])
    assert found.missing.tolist() == [[False, True], [False, True], [False, False], [False, False]]
    assert stretches.column("ratio", log=False, layers=("b", "a")).values[3].tolist() == [5, 3]


def test_nothing_was_taken_up_yet():
    stretches = Stretches(10)
    stretches.add(layers(np.zeros((0, 2))))
    assert stretches.column("ratio", log=False) is None


@pytest.mark.parametrize(("odd", "told"), [([np.inf, np.nan], np.nan), ([-np.inf, np.inf], np.inf)])
def test_of_several_that_are_not_finite_one_is_told(odd, told):
    values = np.ones((40, 1))
    values[8:10, 0] = odd
    found = taken_up(layers(values), 10).column("ratio", log=False)
    np.testing.assert_equal(found.values[2, 0], told)
