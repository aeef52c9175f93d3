import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def problems(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import problems

    return problems.PROBLEMS


def overhead(*arguments):
    quick = ["--problems", "mnist_logreg", "--tracked", "economy", "--turns", "2", "--warmup", "1"]
    command = [sys.executable, BENCHMARKS / "overhead.py", *quick, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_the_networks_have_the_published_numbers_of_parameters(problems):
    sizes = {name: sum(p.numel() for p in problem.model().parameters()) for name, problem in problems.items()}
    assert sizes == {"cifar10_3c3d": 895_210, "fmnist_2c2d": 3_274_634, "mnist_mlp": 1_336_610, "mnist_logreg": 7_850}


@pytest.mark.parametrize("name", ["cifar10_3c3d", "fmnist_2c2d", "mnist_mlp", "mnist_logreg"])
def test_batches_fit_the_network_and_say_where_they_come_from(problems, name):
    problem = problems[name]
    batches, source = problem.batches(count=3, batch_size=4, data=None)
    assert source == "random numbers"
    assert len(batches) == 3
    assert problem.model()(batches[2][0]).shape == (4, 10)


def test_real_images_are_taken_where_they_are_found(problems, data_dir):
    ((x, y),), source = problems["cifar10_3c3d"].batches(count=1, batch_size=4, data=data_dir)
    assert source == "cifar10_subset"
    assert x.shape == (4, 3, 32, 32)
    assert x.max() <= 1
    assert y.dtype == torch.int64


def test_overhead_prints_a_table_beside_the_reference_and_writes_figures(tmp_path):
    reference = tmp_path / "published.csv"
    reference.write_text(
        "table,problem,device,tracked,track_interval,seconds_per_step,overhead\n"
        "grid,mnist_logreg,cpu,economy,2,0.01,1.75\n"
        "grid,mnist_logreg,cuda,economy,2,0.01,9.25\n"
    )
    arguments = ["--tracked", "economy", "GradNorm", "--intervals", "1", "2", "--reference", reference]
    done = overhead(*arguments, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "mnist_logreg" in line]
    assert lines[1].split()[-1] == "1.75"
    assert "9.25" not in done.stdout
    with (tmp_path / "out" / "overhead.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["tracked"], r["interval"], r["turns"]) for r in rows] == [
        ("economy", "1", "2"),
        ("economy", "2", "2"),
        ("GradNorm", "1", "2"),
    ]
    assert all(float(r["baseline"]) > 0 and int(r["peak"]) > 50 << 20 for r in rows)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        f"{name}.{kind}" for name in ("instruments", "configurations", "memory") for kind in ("png", "pdf")
    } < written


def test_a_loop_that_fails_says_why(tmp_path):
    done = overhead("--tracked", "NoSuchInstrument")
    assert done.returncode != 0
    assert "there is no instrument class 'NoSuchInstrument'" in done.stderr


def test_a_reference_table_without_the_columns_is_refused(tmp_path):
    (tmp_path / "odd.csv").write_text("problem,device,tracked,track_interval\nmnist_logreg,cpu,economy,1\n")
    done = overhead("--reference", tmp_path / "odd.csv")
    assert done.returncode != 0
    assert "odd.csv has no column 'overhead'" in done.stderr
