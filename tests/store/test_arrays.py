"""Arrays of any shape come back from the log as they were, bit for bit, and take no more room than their bits."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from backends import Backend, Somewhere
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from cockpit.reading import Histogram, Reading
from cockpit.run import Run, load_run
from cockpit.store import Header, Reader, UnreadableLog, Writer, arrays

EVERY_DATABASE = True

Start = Callable[..., Writer]

NAMES = ("conv.weight", "conv.bias", "schön", 'it\'s "quoted"')
shapes = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
any_bits = st.sampled_from(["u4", "u8"]).flatmap(
    lambda bits: arrays_of.arrays(bits, shapes).map(lambda array: array.view(bits.replace("u", "f")))
)
"""Not any numbers but any bits: NaN with all its payloads, both zeros, what is too small to be normal."""
by_name = st.dictionaries(st.sampled_from(NAMES), any_bits, min_size=1)


def assert_same_bits(found: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> None:
    assert list(found) == list(given)
    for name, array in given.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@given(log=st.dictionaries(st.integers(-3, 9), by_name, min_size=1))
@settings(max_examples=40, deadline=None)
def test_arrays_come_back_bit_for_bit(log: dict[int, dict[str, np.ndarray]], somewhere: Somewhere) -> None:
    with somewhere() as place:
        writer = Writer(place, Header("run", 0.0))
        for step, given_ in log.items():
            writer.put(step, 0.5 * step, {"theta": Reading(1.0, arrays=given_)})
        writer.close()
        run = load_run(place)
        assert run.reader.events() == []
        held = run["theta"].arrays
        assert held is not None
        assert held.steps.tolist() == sorted(log)
        assert held.times.tolist() == [0.5 * step for step in sorted(log)]
        for step, given_ in log.items():
            assert_same_bits(run["theta"].at(step), given_)


def both(start: Start, step: int = 3) -> Run:
    writer = start()
    layers = {"a": Histogram(np.array([1, 2]), np.arange(3.0))}
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    writer.put(step, 0.1, {"theta": Reading(layers["a"], layers, arrays={"a": array})})
    writer.put(step + 4, 0.2, {"theta": Reading(None, {"a": None}, arrays={"a": -array, "b": array[0]})})
    writer.put(step + 8, 0.3, {"theta": Reading(layers["a"], layers), "loss": Reading(1.0)})
    writer.close()
    return load_run(writer.path)


def test_arrays_stand_beside_the_values_of_their_key(start: Start) -> None:
    run = both(start)
    assert [(series.key, series.kind, series.points) for series in run.reader.series()] == [
        ("theta", "histogram", 3), ("theta", "layer_histograms", 3), ("theta", "arrays", 2), ("loss", "scalar", 1),
    ]  # fmt: skip
    quantity = run["theta"]
    assert (quantity.values.tolist(), quantity.missing.tolist()) == ([[1, 2], [0, 0], [1, 2]], [False, True, False])
    assert quantity.layers is not None
    assert quantity.layers.values.tolist() == [[[1, 2]], [[0, 0]], [[1, 2]]]
    assert quantity.arrays is not None
    assert quantity.arrays.steps.tolist() == [3, 7]
    assert list(run.at(20)) == ["theta", "loss"]
    assert len(run.reader.column("theta", "arrays", max_points=2)) == 2


def test_arrays_at_a_step_are_the_last_ones_before_it(start: Start) -> None:
    quantity = both(start)["theta"]
    assert [list(quantity.at(step)) for step in (3, 6, 7, 100)] == [["a"], ["a"], ["a", "b"], ["a", "b"]]
    assert quantity.at(5)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(KeyError, match="the first arrays of 'theta' are those of step 3, after step 2"):
        quantity.at(2)


def test_of_a_step_logged_twice_the_later_arrays_count(start: Start) -> None:
    writer = start()
    for value in (1.0, 2.0):
        writer.put(0, 0.0, {"theta": Reading(None, arrays={"a": np.full((1, 2), value)})})
    writer.close()
    run = load_run(writer.path)
    assert run["theta"].at(0)["a"].tolist() == [[2.0, 2.0]]
    assert run["theta"].arrays.steps.tolist() == [0]


def test_a_key_without_arrays_says_where_its_values_are(start: Start) -> None:
    run = both(start)
    with pytest.raises(KeyError, match=r"no arrays are logged as 'loss'.*\.values.*Parameters\(values=True\)"):
        run["loss"].at(3)
    with pytest.raises(KeyError, match="'loss' is logged as scalar, not as arrays"):
        run.reader.arrays("loss", 3)


def test_arrays_are_brought_into_rows_and_the_byte_order_of_logs(start: Start) -> None:
    writer, square = start(), np.arange(12.0).reshape(3, 4)
    writer.put(0, 0.0, {"theta": Reading(None, arrays={"turned": square.T, "swapped": square.astype(">f8")})})
    writer.close()
    found = load_run(writer.path)["theta"].at(0)
    np.testing.assert_array_equal(found["turned"], square.T)
    np.testing.assert_array_equal(found["swapped"], square)
    assert found["swapped"].dtype == np.dtype("=f8")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"a": np.arange(3)}, "'a' is int64"),
        ({"a": np.zeros(3, np.float16)}, "'a' is float16"),
        ({"a": [1.0, 2.0]}, "'a' is list"),
        (np.zeros(3), "the arrays of 'theta' cannot be stored"),
    ],
)
def test_what_is_no_array_of_floats_is_an_event_and_the_value_is_kept(start: Start, wrong: Any, words: str) -> None:
    writer = start()
    writer.put(0, 0.0, {"theta": Reading(2.0, arrays=wrong)})
    writer.close()
    run = load_run(writer.path)
    (event,) = run.reader.events()
    assert (event.kind, event.subject) == ("error", "theta")
    assert words in event.text
    assert run["theta"].values.tolist() == [2.0]
    assert run["theta"].arrays is None


def test_arrays_larger_than_a_cell_are_an_event(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MOST", 1000)
    writer = start()
    writer.put(0, 0.0, {"theta": Reading(2.0, arrays={"a": np.random.default_rng(0).normal(size=1000)})})
    writer.close()
    (event,) = Reader(writer.path).events()
    assert "more than a log holds: 1,000 bytes" in event.text


def test_where_arrays_come_too_fast_numbers_are_not_dropped_with_them(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cockpit.store.inbox._MEMORY", 10_000)
    writer = start(flush_interval=60.0)
    for step in range(10):
        writer.put(step, 0.0, {"theta": Reading(1.0, arrays={"a": np.zeros(500)})})
    assert writer.dropped == 8
    writer.close()
    run = load_run(writer.path)
    assert len(run["theta"].steps) == 10
    assert run["theta"].arrays.steps.tolist() == [0, 1]


def test_arrays_larger_than_may_wait_are_written_where_nothing_else_waits(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cockpit.store.inbox._MEMORY", 1_000)
    writer = start()
    for step in range(3):
        writer.put(step, 0.0, {"theta": Reading(1.0, arrays={"a": np.zeros(500)})})
        assert writer.flush()
    assert writer.dropped == 0
    assert load_run(writer.path)["theta"].arrays.steps.tolist() == [0, 1, 2]


def size_of(start: Start, name: str, array: np.ndarray) -> int:
    """Bytes that each of ten steps takes."""
    writer = start(name)
    for step in range(10):
        writer.put(step, 0.0, {"theta": Reading(None, arrays={"layer.weight": array})})
    writer.close()
    return writer.path.stat().st_size // 10


@pytest.mark.files
def test_arrays_take_at_most_their_bits_and_less_where_these_are_alike(start: Start) -> None:
    draw = np.random.default_rng(0)
    weights = (0.05 * draw.normal(size=(200, 500))).astype(np.float32)
    bits = draw.integers(0, 2**32, size=100_000, dtype=np.uint32).view(np.float32)
    pages = 15_000  # of the file, whatever it holds
    assert size_of(start, "weights", weights) < 0.9 * weights.nbytes + pages
    assert size_of(start, "widened", weights.astype(np.float64)) < 0.6 * 2 * weights.nbytes + pages
    assert size_of(start, "zeros", np.zeros_like(weights)) < 0.02 * weights.nbytes + pages
    assert bits.nbytes <= size_of(start, "bits", bits) < 1.02 * bits.nbytes + pages


def test_shapes_and_names_are_stored_once(start: Start, backend: Backend) -> None:
    writer = start()
    for step in range(5):
        writer.put(step, 0.0, {"theta": Reading(None, arrays={"a": np.full((2, 3), float(step))})})
    writer.close()
    assert backend.tamper(writer, "SELECT count(*) FROM layout") == [(1,)]


@pytest.mark.parametrize("statement", ["UPDATE payload SET data = ?", "UPDATE layout SET edges = ?"])
@pytest.mark.parametrize("damage", [b"", b"\xff" * 9, b'[["<f4", [1000000000000]]]', b'[["<f4", [-3]]]'])
def test_damaged_arrays_say_so(start: Start, backend: Backend, statement: str, damage: bytes) -> None:
    writer = start()
    writer.put(0, 0.0, {"theta": Reading(None, arrays={"a": np.ones(7)})})
    writer.close()
    backend.tamper(writer, statement, damage)
    with pytest.raises(UnreadableLog, match="is damaged"):
        Reader(writer.path).arrays("theta", 0)
