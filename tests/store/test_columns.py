import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.store.columns import scalar_column, strided, thin
from cockpit.store.points import from_rows
from cockpit.store.schema import MISSING, flag_of

entries = st.lists(st.none() | st.floats() | st.sampled_from([0.0, 1.0]), min_size=20, max_size=400)


def arrays(values: list[float | None]) -> tuple[np.ndarray, np.ndarray]:
    flags = np.array([flag_of(value) for value in values], np.int8)
    return np.array([np.nan if value is None else value for value in values]), flags


@given(entries, st.integers(2, 100))
def test_thinning_keeps_its_bound_and_both_ends(values: list[float | None], bound: int) -> None:
    kept = thin(*arrays(values), bound)
    assert len(kept) <= bound
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    assert (np.diff(kept) > 0).all()


@given(entries, st.integers(8, 100))
def test_thinning_keeps_extremes_and_every_sort_of_gap(values: list[float | None], bound: int) -> None:
    numbers, flags = arrays(values)
    kept = thin(numbers, flags, bound)
    assert set(flags[kept]) == set(flags)
    finite = numbers[np.isfinite(numbers)]
    if len(finite):
        left = numbers[kept][np.isfinite(numbers[kept])]
        assert left.max() == finite.max()
        assert left.min() == finite.min()


@pytest.mark.parametrize("place", [1, 4_999, 50_000, 99_998])
@pytest.mark.parametrize("value", [1e6, -1e6, float("nan"), float("inf"), float("-inf"), None])
def test_a_single_spike_or_gap_among_a_hundred_thousand_points_survives(place: int, value: float | None) -> None:
    points: list[float | None] = list(np.random.default_rng(0).standard_normal(100_000))
    points[place] = value
    assert place in thin(*arrays(points), 500)


def test_a_spike_beside_a_gap_survives_with_it() -> None:
    points: list[float | None] = [0.0] * 10_000
    points[5_000:5_003] = [None, 1e6, float("nan")]
    kept = thin(*arrays(points), 200)
    assert {5_000, 5_001, 5_002} <= set(kept)


def test_every_stretch_keeps_its_own_spike() -> None:
    numbers = np.zeros(100_000)
    spikes = np.arange(500, 100_000, 1_000)
    numbers[spikes] = 1.0
    kept = thin(numbers, np.zeros(100_000, np.int8), 402)
    assert set(spikes) <= set(kept)


def test_a_long_gap_stays_open() -> None:
    points: list[float | None] = [1.0] * 10_000
    points[4_000:6_000] = [None] * 2_000
    _, flags = arrays(points)
    kept = thin(*arrays(points), 100)
    inside = kept[(kept >= 4_000) & (kept < 6_000)]
    assert len(inside) >= 5
    assert (flags[inside] == MISSING).all()


def test_no_rows_are_an_empty_column() -> None:
    column = scalar_column("loss", from_rows([]))
    assert len(column) == 0
    assert column.values.dtype == np.dtype(np.float64)
    assert column.missing.dtype == np.dtype(bool)


def test_of_equal_steps_the_point_with_the_highest_number_stays_whatever_their_order() -> None:
    places = [(4, 1), (2, 1), (3, 2), (9, 3), (8, 3), (5, 0)]
    points = from_rows([[(number, step, 0.0, float(number), 0, None) for number, step in places]]).in_order()
    assert (points.steps.tolist(), points.ids.tolist()) == ([0, 1, 2, 3], [5, 4, 3, 9])


def test_even_strides_keep_their_bound_and_both_ends() -> None:
    points = from_rows([[(step, step, 0.0, 1.0, 0, None) for step in range(100)]])
    assert strided(points, 5).steps.tolist() == [0, 25, 50, 74, 99]
    assert strided(points, 100) is strided(points, None) is points
