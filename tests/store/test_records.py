"""Records come back as they were, or not at all: framed, checksummed, compressed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.store.attempts import Attempt
from cockpit.store.batch import Batch, SeriesRow
from cockpit.store.records import Damaged, decode, encode, from_batch, to_batch

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=50),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
records = st.lists(
    st.dictionaries(st.text(max_size=5).filter(lambda name: name != "bytes"), plain, max_size=4), max_size=5
)


@given(records, st.binary(max_size=30))
def test_records_come_back_as_they_were(told: list[dict[str, Any]], before: bytes) -> None:
    data = b"".join(map(encode, told))
    assert decode(data) == (told, len(data))


@given(records.filter(len), st.data())
def test_a_record_that_is_cut_short_does_not_count_and_those_before_it_do(told: Any, data: Any) -> None:
    *earlier, last = map(encode, told)
    cut = data.draw(st.integers(0, len(last) - 1))
    garbage = data.draw(st.sampled_from([b"", b"\0" * 20]))
    assert decode(b"".join(earlier) + last[:cut] + garbage) == (told[:-1], len(b"".join(earlier)))


def test_damage_before_whole_records_is_no_cut() -> None:
    first, second = encode({"kind": "a", "text": "x" * 50}), encode({"kind": "b"})
    damaged = bytearray(first + second)
    damaged[20] ^= 1
    with pytest.raises(Damaged, match="the record at byte 0 is not what was written"):
        decode(bytes(damaged))


def test_what_a_log_does_not_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="a log holds numbers, text and bytes, not complex"):
        encode({"kind": 1j})


def test_a_batch_comes_back_as_it_was() -> None:
    row = SeriesRow(1, "loss", "instrument", False, 0, 5, -3, 2**62, -0.0, 1, 7, 5)
    batch = Batch(
        {1: tuple(vars(row).values())},
        [(1, b"digest", None, 3, b"edges")],
        [(4, 1, -3, 0.5, float("inf"), 2, None)],
        [(4, b"payload")],
        [(5, None, 1.0, "info", "said ünïcødé \N{ROCKET}", "")],
        {"name": ("name", 6, "{}")},
        [("start", 0, b"piece")],
        [(row, 1024)],
        Attempt(2, 3, 4, 5.0, "host", 6, "train.py"),
        7,
        None,
        8.5,
    )
    (record,), _ = decode(encode({"batch": from_batch(batch)}))
    assert to_batch(record["batch"]) == batch
