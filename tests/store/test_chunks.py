"""Chunks give back what was put into them, bit for bit, and take little room."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit.store.chunks import LONGEST, decode_points, decode_sketches, encode_points, encode_sketch, pack, unpack
from cockpit.store.codec import decode_counts, encode_counts
from cockpit.store.points import Points, from_rows
from cockpit.store.schema import FINITE, flag_of

integers = st.integers(-(2**63), 2**63 - 1)
small = st.integers(-3, 300)
times = st.floats() | st.just(-0.0) | st.integers(0, 10**12).map(lambda micro: micro / 1e6)
numbers = st.none() | st.floats() | st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0])


@st.composite
def chunks(draw: st.DrawFn) -> Points:
    ids = draw(st.lists(integers, min_size=1, max_size=20) | st.lists(small, min_size=1, max_size=20))
    n = len(ids)
    steps = draw(st.just(ids) | st.lists(integers, min_size=n, max_size=n) | st.just(list(range(7, 7 + 3 * n, 3))))
    stamps = draw(st.lists(times, min_size=n, max_size=n))
    values = draw(st.lists(numbers, min_size=n, max_size=n) | st.lists(st.just(2.5), min_size=n, max_size=n))
    layouts = draw(st.lists(st.none() | st.integers(1, 2**40), min_size=n, max_size=n))
    flags = [flag_of(value) for value in values]
    finite = [value if flag == FINITE else None for value, flag in zip(values, flags, strict=True)]
    return from_rows([list(zip(ids, steps, stamps, finite, flags, layouts, strict=True))])


def bits(points: Points) -> list[bytes]:
    """All columns but the chunks' numbers, as bytes; NaNs alike."""
    values = np.where(np.isnan(points.values), np.nan, points.values)
    columns = (points.ids, points.steps, points.times, values, points.flags, points.layouts)
    return [column.tobytes() for column in columns]


@given(st.lists(chunks(), min_size=1, max_size=5))
@settings(deadline=None)
def test_points_come_back_bit_for_bit_whatever_stands_beside_them(several: list[Points]) -> None:
    found = decode_points([(at, len(points), encode_points(points)) for at, points in enumerate(several)])
    starts = np.cumsum([0, *map(len, several)])
    for at, points in enumerate(several):
        assert bits(found[slice(starts[at], starts[at + 1])]) == bits(points)
        assert (found.chunks[starts[at] : starts[at + 1]] == at).all()


@given(st.lists(st.none() | st.binary(max_size=12), max_size=30))
def test_payloads_come_back_as_they_were(payloads: list[bytes | None]) -> None:
    assert unpack(pack(payloads, counts=False), len(payloads)) == payloads


@given(st.lists(st.none() | st.lists(st.integers(0, 2**40), min_size=4, max_size=4), max_size=20))
def test_histograms_come_back_as_they_were(histograms: list[list[int] | None]) -> None:
    here = np.zeros(1, bool)
    payloads = [None if h is None else encode_counts(np.array([h]), here) for h in histograms]
    for data, histogram in zip(unpack(pack(payloads, counts=True), len(payloads)), histograms, strict=True):
        counts, missing = decode_counts(data, 1, [4])
        assert (counts.tolist(), missing.tolist()) == ([histogram or [0] * 4], [histogram is None])


@given(chunks())
@settings(deadline=None)
def test_a_sketch_keeps_ends_extremes_and_every_sort_of_gap(points: Points) -> None:
    sketch = decode_sketches([encode_sketch(points)])
    assert len(sketch) <= 10
    assert (sketch.steps[0], sketch.steps[-1]) == (points.steps[0], points.steps[-1])
    assert set(sketch.flags) == set(points.flags)
    finite, kept = (each.values[each.flags == FINITE] for each in (points, sketch))
    if len(finite):
        assert (kept.min(), kept.max()) == (finite.min(), finite.max())


def training(n: int, dtype: type = np.float32) -> Points:
    """A loss as training logs it: every step, at uneven times, in single precision."""
    random = np.random.default_rng(0)
    clock = np.rint(np.cumsum(random.normal(0.01, 0.0005, n)) * 1e6) / 1e6
    loss = np.exp(-np.arange(n) / n) * random.lognormal(0, 0.2, n)
    whole = np.arange(n)
    return Points(
        50 * whole + 3, whole, clock, loss.astype(dtype).astype(float), np.zeros(n, np.int8), 0 * whole, 0 * whole
    )


@pytest.mark.parametrize(("dtype", "most"), [(np.float32, 5.2), (np.float64, 9.0)])
def test_a_point_takes_the_bytes_of_its_value_and_little_more(dtype: type, most: float) -> None:
    points = training(LONGEST, dtype)
    assert len(encode_points(points)) / LONGEST < most


def test_points_are_decoded_by_the_million() -> None:
    data = encode_points(training(LONGEST))
    chunked = [(at + 1, LONGEST, data) for at in range(500)]
    decode_points(chunked[:10])
    began = time.thread_time()
    assert len(decode_points(chunked)) == 500 * LONGEST
    assert time.thread_time() - began < 2.0  # some 30 ms on an idle machine


def test_a_chunk_of_an_absurd_length_is_refused() -> None:
    data = encode_points(training(10))
    for length in (0, -1, 10**9):
        with pytest.raises(ValueError, match=f"a chunk of {length} points"):
            decode_points([(1, length, data)])
