"""Rows, cells, orders and bars of the table of layers."""

import numpy as np
import pytest

from cockpit.drawing.layer_table import (
    Extent,
    Row,
    cell,
    middles,
    order_by_score,
    order_by_value,
    rows_of,
)
from cockpit.layers import Owner

NAN = float("nan")
NAMES = ("embed", "blocks.0.norm", "blocks.0.fc", "blocks.1.norm", "blocks.1.fc", "head")
OWNERS = {
    name: Owner(name, {"norm": "LayerNorm", "fc": "Linear"}.get(name.rpartition(".")[2], "Other")) for name in NAMES
}


def names(rows):
    return [[row.name for row in block] for block in rows]


def test_repeated_blocks_are_folded_into_rows():
    found = rows_of(NAMES, OWNERS, "position")
    assert names(found) == [["embed"], ["blocks.[0-1].norm"], ["blocks.[0-1].fc"], ["head"]]
    assert found[1][0].members == (1, 3)


def test_the_layers_of_a_plain_sequence_are_no_repetitions():
    owners = {name: Owner(name, "Linear") for name in ("features.0", "features.1", "features.2")}
    assert names(rows_of(tuple(owners), owners, "position")) == [[name] for name in owners]


def test_a_group_unfolds_into_its_modules():
    (_, norm, _, _) = rows_of(NAMES, OWNERS, "position", ["blocks.[0-1].norm"])
    assert [(row.name, row.inner, row.unfolded) for row in norm] == [
        ("blocks.[0-1].norm", False, True), ("blocks.0.norm", True, False), ("blocks.1.norm", True, False),
    ]  # fmt: skip


def test_modules_are_grouped_by_block_or_type_or_not_at_all():
    assert names(rows_of(NAMES, OWNERS, "block")) == [["embed"], ["blocks.0"], ["blocks.1"], ["head"]]
    assert names(rows_of(NAMES, OWNERS, "type")) == [["Other"], ["LayerNorm"], ["Linear"]]
    assert names(rows_of(NAMES, OWNERS, "depth")) == [[name] for name in NAMES]


def test_a_cell_is_the_median_and_the_range_of_what_is_known():
    found = cell(Row("g", (0, 1, 3)), np.array([1.0, 3.0, 100.0, NAN]), np.array([0.5, 7.0, 99.0, NAN]))
    assert (found.middle, found.low, found.high, found.score) == (2, 1, 3, 7)
    nothing = cell(Row("g", (3,)), np.full(4, NAN), np.full(4, NAN))
    assert np.isnan([nothing.middle, nothing.low, nothing.high, nothing.score]).all()


def test_medians_over_time_are_those_of_the_cells():
    values = np.array([[1.0, 3.0, 5.0], [NAN, 2.0, NAN]])
    rows = [Row("all", (0, 1, 2)), Row("a", (0,))]
    np.testing.assert_equal(middles(rows, values), [[3, 1], [2, NAN]])


def test_what_stands_out_comes_first_and_all_else_keeps_its_place():
    assert order_by_score([1.0, 9.0, 3.9, float("inf"), NAN, 5.2]) == [3, 1, 5, 0, 2, 4]
    assert order_by_score([5.1, 5.9]) == [0, 1]  # a small difference moves no row


def test_rows_without_a_value_come_last():
    assert order_by_value([NAN, 1.0, 3.0, NAN]) == [2, 1, 0, 3]


@pytest.mark.parametrize("log", [False, True])
def test_bars_grow_with_the_value_and_stay_in_their_cell(log):
    values = np.array([0.0, 0.001, 0.5, 2.0, NAN, float("inf")])
    extent = Extent.of(values, log=log)
    shares = [extent.share(float(value)) for value in values]
    assert all(0 <= share <= 1 for share in shares)
    assert shares[:4] == sorted(shares[:4])
    assert shares[3] == pytest.approx(1)
    assert shares[4] == 0
    assert shares[5] == 1


def test_the_least_of_negative_values_still_has_a_bar():
    extent = Extent.of(np.array([-20.0, -10.0]), log=False)
    assert 0 < extent.share(-20) < 0.2
    assert extent.share(-10) == 1


def test_equal_values_have_bars():
    for log in (False, True):
        assert Extent.of(np.array([3.0, 3.0]), log=log).share(3.0) > 0.9
