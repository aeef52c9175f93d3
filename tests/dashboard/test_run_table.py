"""The table of runs: columns, cells, and what a page is told."""

import json
import math

import pytest
from synthetic import write_run

from cockpit.dashboard.listing import Listing
from cockpit.dashboard.run_table import Columns, field, row, tags_of
from cockpit.dashboard.runs import Table
from cockpit.store import RunSummary, Store

HOSTILE = "<img src=x onerror=alert(1)>"


def run(name="a", config=None, latest=None, **facts):
    return RunSummary(name, "finished", 1.0, config=config or {}, latest=latest or {}, **facts)


def learnt(*runs):
    columns = Columns()
    columns.learn(runs)
    return columns


def test_hyperparameters_in_which_runs_differ_are_shown_unasked():
    columns = learnt(
        run(config={"lr": 0.1, "seed": 1, "data": "mnist"}, latest={"grad_norm": 1.0, "valid/accuracy": 0.9}),
        run(config={"lr": 0.2, "seed": 2, "data": "mnist"}),
    )
    assert columns.usual() == ["config:lr", "config:seed", "latest:valid/accuracy"]


def test_groups_of_hyperparameters_are_columns_of_their_own():
    columns = learnt(run(config={"optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}}))
    assert [item["label"] for item in columns.offered()[0]["items"]] == ["optimizer.lr", "optimizer.betas"]


def test_all_that_runs_hold_is_offered_and_nothing_else_is_known():
    columns = learnt(run(config={"lr": 0.1}, latest={"loss": 1.0, "grad_norm": 2.0}))
    offered = [item["value"] for group in columns.offered() for item in group["items"]]
    assert offered == ["config:lr", "latest:grad_norm"]
    assert columns.known(["latest:grad_norm", "latest:nothing", 3, None]) == ["latest:grad_norm"]
    assert columns.known("config:lr") == []


@pytest.mark.parametrize(
    ("order", "sorted_by"),
    [(None, {"created": "desc"}), (3, {"created": "desc"}), ("loss.asc", {"loss": "asc"}), ("none", {}),
     (f"{field('config:lr')}.desc", {field("config:lr"): "desc"}), ("gone.asc", {}), ("loss.up", {})],
)  # fmt: skip
def test_one_column_at_most_is_sorted_by_and_all_others_say_that_they_are_not(order, sorted_by):
    columns = learnt(run(config={"lr": 0.1})).definitions(["config:lr"], order)
    assert {column["field"]: column["sort"] for column in columns if column["sort"]} == sorted_by
    assert all("sort" in column for column in columns)


def test_learning_the_same_again_is_no_news():
    columns = Columns()
    assert columns.learn([run(config={"lr": 0.1})])
    assert not columns.learn([run(config={"lr": 0.3})])


@pytest.mark.parametrize(("value", "numbers"), [(0.1, True), (3, True), ("sgd", False), (True, False), ([1], False)])
def test_a_column_of_numbers_is_filtered_as_numbers(value, numbers):
    columns = learnt(run(config={"x": value}), run(config={"x": None}))
    (extra,) = [entry for entry in columns.definitions(["config:x"]) if entry["field"] == field("config:x")]
    assert (extra["filter"] == "agNumberColumnFilter") is numbers


@pytest.mark.parametrize(
    ("value", "cell"),
    [(0.1, 0.1), (7, 7), (math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "−∞"), (None, None), (True, "true"),
     ("sgd", "sgd"), ([0.9, 0.99], "[0.9, 0.99]"), (HOSTILE, HOSTILE)],
)  # fmt: skip
def test_every_value_has_a_cell_that_json_can_hold(value, cell):
    cells = row(run(config={"x": value}), ["config:x"])
    assert cells[field("config:x")] == cell
    assert json.loads(json.dumps(cells, allow_nan=False)) == cells


def test_long_values_are_cut():
    assert len(row(run(config={"x": "y" * 10_000}), ["config:x"])[field("config:x")]) <= 200


@pytest.mark.parametrize("name", ["a.b", "a[0]", "a b", HOSTILE, "é|ü", "", "\ud800"])
def test_any_name_makes_a_field_that_is_no_path(name):
    assert field(f"config:{name}").isalnum()


@pytest.mark.parametrize(
    ("text", "tags"), [("", ()), (" a ,b,, a ", ("a", "b")), ("two words", ("two words",)), (HOSTILE, (HOSTILE,))]
)
def test_tags_are_typed_with_commas(text, tags):
    assert tags_of(text) == tags


@pytest.fixture
def table(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name, 20)
    return Table(Listing(Store(tmp_path)))


def test_a_page_is_told_everything_and_then_what_changes(table, tmp_path):
    first = table.answer(None)
    assert (first["whole"], sorted(cells["name"] for cells in first["rows"])) == (True, ["a", "b"])
    assert first["definitions"]
    assert first["offered"]
    second = table.answer({"known": first["known"]})
    assert (second["whole"], second["rows"], second["gone"], second["definitions"]) == (False, [], [], None)
    write_run(tmp_path / "c", 20)
    table.listing.look(anew=True)
    third = table.answer({"known": second["known"]})
    assert [cells["name"] for cells in third["rows"]] == ["c"]


def test_other_columns_bring_all_rows_anew(table):
    first = table.answer(None)
    second = table.answer({"known": first["known"], "columns": json.dumps(["latest:grad_norm"])})
    assert second["whole"]
    assert all(isinstance(cells[field("latest:grad_norm")], float) for cells in second["rows"])


def test_a_page_from_before_a_restart_is_told_everything(table, tmp_path):
    known = Table(Listing(Store(tmp_path))).answer(None)["known"]
    assert len(table.answer({"known": known})["rows"]) == 2


@pytest.mark.parametrize(
    "ask",
    [3, "x", [], {"known": 3}, {"known": {"revision": "x"}}, {"columns": "{"}, {"columns": "3"}, {"columns": 7},
     {"known": {"columns": 3, "epoch": 4}}],
)  # fmt: skip
def test_whatever_a_page_asks_is_answered(table, ask):
    assert len(table.answer(ask)["rows"]) == 2
