import csv
import io
import json
from math import inf, nan

import numpy as np
import pytest

from cockpit.formats.export import arrays_of, to_csv, to_json
from cockpit.reading import Histogram, Histogram2d, Reading
from cockpit.run import load_run
from cockpit.store import Header, Writer

EDGES = np.array([-1.0, 0.0, 1.0])


@pytest.fixture
def run(tmp_path):
    """Three steps: a gap, numbers that are not finite, layers that come and go, histograms."""
    writer = Writer(tmp_path / "run", Header("run", 12.0, config={"lr": 0.1}, tags=("first",)))
    writer.put(0, 0.5, {"loss": Reading(2.0), "grad_norm": Reading(1.0, layers={"a": 0.5, "b": inf})})
    writer.put(1, 1.0, {"loss": Reading(None), "alpha": Reading(nan, parts={"concave": 1.0})})
    writer.put(4, 2.0, {"loss": Reading(-inf), "grad_norm": Reading(3.0, layers={"a": None, "b": 2.0})})
    writer.put(4, 2.0, {"hist": Reading(Histogram(np.array([3, 4]), EDGES))})
    writer.put(5, 2.5, {"hist": Reading(None)})
    writer.put(5, 2.5, {"pairs": Reading(Histogram2d(np.array([[1], [2]]), EDGES, EDGES[1:]))})
    writer.scalars(4, 2.0, {"valid/accuracy": 0.25})
    writer.close()
    return load_run(tmp_path / "run")


@pytest.fixture
def of_two(tmp_path):
    """Two processes, which do not log the same."""
    header = Header("both", 12.0)
    writers = [Writer(tmp_path / "both", header, rank=rank) for rank in (0, 1)]
    for rank, writer in enumerate(writers):
        writer.put(3, 0.5, {"loss": Reading(float(rank), layers={"a": 0.5 + rank})})
    writers[0].put(4, 1.0, {"loss": Reading(4.0)})
    writers[1].scalars(3, 0.5, {"own": 7.0})
    for writer in writers:
        writer.close()
    return tmp_path / "both"


def test_csv_of_several_processes_has_the_lines_of_each_with_its_rank(of_two):
    file = io.StringIO()
    to_csv(load_run(of_two), file)
    assert file.getvalue() == "rank,step,loss,own\n0,3,0.0,\n0,4,4.0,\n1,3,1.0,7.0\n"


def test_csv_of_one_of_several_processes_is_that_of_a_run_of_one(of_two):
    file = io.StringIO()
    to_csv(load_run(of_two / "rank1"), file)
    assert file.getvalue() == "step,loss,own\n3,1.0,7.0\n"


def test_json_of_several_processes_has_the_others_by_their_rank(of_two):
    file = io.StringIO()
    to_json(load_run(of_two), file)
    content = json.loads(file.getvalue())
    assert content["series"]["loss"]["values"] == [0.0, 4.0]
    assert content["ranks"].keys() == {"1"}
    assert content["ranks"]["1"]["series"]["loss"]["layers"]["values"] == [[1.5]]


def test_csv_has_a_line_per_step_and_a_column_per_scalar_quantity(run):
    file = io.StringIO()
    to_csv(run, file)
    assert list(csv.DictReader(io.StringIO(file.getvalue()))) == [
        dict(zip(("step", "loss", "grad_norm", "alpha", "alpha.concave", "valid/accuracy"), row, strict=True))
        for row in (
            ("0", "2.0", "1.0", "", "", ""),
            ("1", "", "", "nan", "1.0", ""),
            ("4", "-inf", "3.0", "", "", "0.25"),
        )
    ]


def test_json_holds_everything_and_keeps_gaps_apart_from_nan(run):
    file = io.StringIO()
    to_json(run, file)
    content = json.loads(file.getvalue())
    series = content.pop("series")
    assert content == {"name": "run", "state": "finished", "created": 12.0, "config": {"lr": 0.1}, "tags": ["first"]}
    assert series["loss"] == {"steps": [0, 1, 4], "times": [0.5, 1.0, 2.0], "values": [2.0, None, "-Infinity"]}
    assert series["alpha"]["values"] == ["NaN"]
    assert series["grad_norm"]["layers"]["names"] == ["a", "b"]
    assert series["grad_norm"]["layers"]["values"] == [[0.5, "Infinity"], [None, 2.0]]
    assert series["hist"] == {"steps": [4, 5], "times": [2.0, 2.5], "edges": [-1, 0, 1], "values": [[3, 4], None]}
    both = {"edges": [-1, 0, 1], "y_edges": [0, 1], "values": [[[1], [2]]]}
    assert series["pairs"] == {"steps": [5], "times": [2.5], **both}


def test_arrays_are_left_out_and_named(tmp_path):
    writer = Writer(tmp_path / "run", Header("run", 0.0))
    writer.put(0, 0.0, {"loss": Reading(1.0), "theta": Reading(2.0, arrays={"a": np.zeros(3)})})
    writer.close()
    run, table, document = load_run(tmp_path / "run"), io.StringIO(), io.StringIO()
    to_csv(run, table)
    to_json(run, document)
    assert table.getvalue() == "step,loss,theta\n0,1.0,2.0\n"
    assert json.loads(document.getvalue())["series"]["theta"] == {"steps": [0], "times": [0.0], "values": [2.0]}
    assert arrays_of(run) == ["theta"]


def test_a_run_without_points_is_exported(tmp_path):
    Writer(tmp_path / "run", Header("run", 0.0)).close()
    run, table, document = load_run(tmp_path / "run"), io.StringIO(), io.StringIO()
    to_csv(run, table)
    to_json(run, document)
    assert table.getvalue() == "step\n"
    assert json.loads(document.getvalue())["series"] == {}
