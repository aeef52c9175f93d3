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
    command = [sys.executable, BENCHMARKS / "overhead.py", "--problems", "mnist_logreg", "--periods", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


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


def test_overhead_prints_a_table_beside_the_reference_and_writes_csv(tmp_path):
    reference = tmp_path / "published.csv"
    reference.write_text(
        "table,problem,device,tracked,track_interval,seconds_per_step,overhead\n"
        "grid,mnist_logreg,cpu,economy,2,0.01,1.75\n"
        "grid,mnist_logreg,cuda,economy,2,0.01,9.25\n"
    )
    target = tmp_path / "out.csv"
    done = overhead("--intervals", "1", "2", "--reference", reference, "--csv", target)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "mnist_logreg" in line]
    assert lines[1].split()[-1] == "1.75"
    assert "9.25" not in done.stdout
    with target.open() as file:
        first, second = csv.DictReader(file)
    assert (first["track_interval"], second["track_interval"]) == ("1", "2")
    extra = (float(second["tracked"]) - float(second["baseline"])) * 2
    assert float(second["extra"]) == pytest.approx(extra)


def test_a_reference_table_without_the_columns_is_refused(tmp_path):
    (tmp_path / "odd.csv").write_text("problem,device,tracked,track_interval\nmnist_logreg,cpu,economy,1\n")
    done = overhead("--reference", tmp_path / "odd.csv")
    assert done.returncode != 0
    assert "odd.csv has no column 'overhead'" in done.stderr
