import csv
import dataclasses
import importlib
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from cockpit.datasets import digits
from cockpit.optim.learned import Classification
from cockpit.optim.learned.rule import Signals
from cockpit.store import Reader, Writer, encoder, upkeep

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def problems(benchmark):
    return benchmark("problems").PROBLEMS


@pytest.fixture
def overhead(benchmark, capsys):
    """``overhead(*arguments)`` measures briefly and gives what is printed."""

    def measure(*arguments):
        quick = ["--problems", "mnist_logreg", "--tracked", "economy", "--turns", "2", "--warmup", "1"]
        benchmark("overhead").main([*quick, *map(str, arguments)])
        return capsys.readouterr().out

    return measure


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


@pytest.mark.slow
def test_overhead_prints_a_table_beside_the_reference_and_writes_figures(tmp_path, overhead):
    reference = tmp_path / "published.csv"
    reference.write_text(
        "table,problem,device,tracked,track_interval,seconds_per_step,overhead\n"
        "grid,mnist_logreg,cpu,economy,2,0.01,1.75\n"
        "grid,mnist_logreg,cuda,economy,2,0.01,9.25\n"
    )
    arguments = ["--tracked", "economy", "GradNorm", "--intervals", "1", "2", "--reference", reference]
    printed = overhead(*arguments, "--out", tmp_path / "out")
    lines = [line for line in printed.splitlines() if "mnist_logreg" in line]
    assert lines[1].split()[-1] == "1.75"
    assert "9.25" not in printed
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


def test_a_loop_that_fails_says_why(tmp_path, benchmark):
    torch.save({"x": torch.zeros(1, 2, 1, 28, 28), "y": torch.zeros(1, 2, dtype=torch.int64)}, tmp_path / "batches.pt")
    job = benchmark("loops").Job(
        "mnist_logreg", "NoSuchInstrument", str(tmp_path / "batches.pt"), 0.1, "cpu", str(tmp_path / "run")
    )
    with pytest.raises(RuntimeError, match="there is no instrument class 'NoSuchInstrument'"):
        benchmark("processes").Worker("cockpit", job, sys.executable, None)


def test_a_reference_table_without_the_columns_is_refused(tmp_path, overhead):
    (tmp_path / "odd.csv").write_text("problem,device,tracked,track_interval\nmnist_logreg,cpu,economy,1\n")
    with pytest.raises(ValueError, match=r"odd\.csv has no column 'overhead'"):
        overhead("--reference", tmp_path / "odd.csv")


def test_the_models_of_the_loss_scaled_optimizers_have_the_published_numbers_of_parameters(benchmark):
    networks = benchmark("networks").LOSS_SCALED
    sizes = {name: sum(p.numel() for p in make().parameters()) for name, make in networks.items()}
    assert sizes == {"A": 8_954, "B": 91_082, "C": 12_730, "D": 109_386, "MLP": 10_010_890}


@pytest.mark.parametrize("rule", [{}, {"gamma": 0.9}, {"beta": 0.9, "gamma": 0.999}])
def test_both_halves_of_the_sources_pair_come_to_the_same_parameters(rule, benchmark):
    kind = benchmark("custom_pair").CustomPair
    torch.manual_seed(0)
    halves = [torch.nn.Linear(4, 3).double() for _ in range(2)]
    halves[1].load_state_dict(halves[0].state_dict())
    optimizers = [kind(half.parameters(), lr=0.1, scaled=scaled, **rule) for scaled, half in enumerate(halves)]
    for _ in range(5):
        x = torch.randn(6, 4).double()
        for half, optimizer in zip(halves, optimizers, strict=True):
            optimizer.zero_grad()
            (half(x).square().mean() * optimizer.loss_scale).backward()
            optimizer.step()
    torch.testing.assert_close(*(list(half.parameters()) for half in halves))


def test_loss_scaled_prints_all_ways_side_by_side_and_writes_a_figure(tmp_path, benchmark, capsys):
    quick = ["--seconds", "0", "--least-turns", "1", "--batch-size", "2"]
    benchmark("loss_scaled").main(["--networks", "C", *quick, "--out", str(tmp_path)])
    assert "cockpit fused, GradScaler" in capsys.readouterr().out
    with (tmp_path / "loss_scaled.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [sum(row["optimizer"] == rule for row in rows) for rule in ("SGD", "RMSprop", "Adam")] == [12, 7, 12]
    assert all(float(row["step"]) > 0 and float(row["training"]) > 0 for row in rows)
    assert {path.name for path in tmp_path.iterdir()} == {f"loss_scaled.{kind}" for kind in ("csv", "png", "pdf")}


def columns(directory):
    reader = Reader(directory)
    return {
        (series.key, series.kind): (series.points, reader.column(series.key, series.kind)) for series in reader.series()
    }


def test_a_log_that_is_laid_down_is_what_the_writer_leaves(tmp_path, benchmark, monkeypatch):
    long_runs = benchmark("long_runs")
    for module, name, value in (
        (long_runs, "LONGEST", 64), (long_runs, "LAYERED_EVERY", 100), (upkeep, "LONGEST", 64),
        (encoder, "_TAIL", (128, 128)), (encoder, "_LENGTH", (64, 64)), (encoder, "_POINTS_PER_CHUNK", 16),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    long_runs.lay_down(tmp_path / "laid", 300)
    writer = Writer(tmp_path / "written", long_runs.header("written"))
    for first in range(0, 300, 64):
        some = long_runs.stretch(first, min(64, 300 - first))
        for at, (step, seconds) in enumerate(zip(some.steps.tolist(), some.times.tolist(), strict=True)):
            if step % 100 == 0:
                writer.put(step, 0.01 * step, long_runs.layered(step))
            writer.put(step, seconds, some.readings(at))
            writer.scalars(step, seconds, some.metrics(at))
    writer.close()
    laid, written = columns(tmp_path / "laid"), columns(tmp_path / "written")
    assert set(laid) == set(written)
    for name, (points, column) in written.items():
        assert laid[name][0] == points
        for field in ("steps", "times", "values", "missing"):
            np.testing.assert_array_equal(getattr(laid[name][1], field), getattr(column, field), str(name))
    chunks = [
        rows(tmp_path / name / "rank0.db", "SELECT count(*), sum(points) FROM chunk") for name in ("laid", "written")
    ]
    assert chunks[0] == chunks[1] == [(150, 9600)]


def rows(file, statement):
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(statement).fetchall()


def test_logs_prints_a_table_beside_tensorboards_and_writes_a_figure(tmp_path, benchmark, capsys):
    benchmark("logs").main(["--steps", "30", "--paced", "4", "--lengths", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.count("TensorBoard") >= 5
    with (tmp_path / "logs.csv").open() as file:
        found = {(row["what"], row["by"]): float(row["value"]) for row in csv.DictReader(file)}
    assert len(found) == 10
    assert all(value > 0 or "thread" in what for (what, _), value in found.items())  # their clock is coarse
    assert {path.name for path in tmp_path.iterdir()} == {"logs.csv", "logs.png", "logs.pdf"}


@pytest.mark.browser
def test_a_first_look_is_timed_until_every_panel_is_drawn(tmp_path, benchmark):
    pages, long_runs = benchmark("pages"), benchmark("long_runs")
    long_runs.lay_down(tmp_path / "run", 20)

    def look():
        with pages.chromium() as browser, pages.dashboard(tmp_path) as server, pages.page_of(browser) as page:
            assert pages.paint(page, server.url) > 0
            assert page.locator("#view .panel .main-svg").count() >= 6
            return server.told()

    with ThreadPoolExecutor(1) as apart:  # browser tests may have an event loop running in this thread
        answers, memory = apart.submit(look).result()
    assert max(answer["bytes"] for answer in answers) > 10_000
    assert memory > 10 << 20


@pytest.mark.parametrize("name", ["TunedSGD", "TunedAdamW"])
@pytest.mark.parametrize("schedule", ["constant", "warm-up + cosine"])
def test_rules_with_a_learning_rate_are_those_of_torch(benchmark, name, schedule):
    kind = getattr(benchmark("tuned_rules"), name)
    rule, rate, total = kind(schedule=schedule), 0.05, 40
    theirs = {"TunedSGD": torch.optim.SGD, "TunedAdamW": torch.optim.AdamW}[name]
    parameter = torch.nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))
    optimizer = theirs([parameter], lr=rate, **({"momentum": 0.9} if name == "TunedSGD" else {}))
    rates = [rate * min(1, (t + 1) / 2) * (1 + np.cos(np.pi * t / total)) / 2 for t in range(total)]
    params = {"p": parameter.detach().clone()}
    state = rule.init(params)
    for step in range(total):
        parameter.grad = torch.cos(3 * parameter.detach() + step)
        optimizer.param_groups[0]["lr"] = rate if schedule == "constant" else rates[step]
        optimizer.step()
        gradients = {"p": torch.cos(3 * params["p"] + step)}
        signals = Signals(*torch.tensor([step, total, 0, 0], dtype=torch.float64))
        params, state = rule.update({"lr": torch.tensor(rate).double()}, gradients, params, state, signals)
    torch.testing.assert_close(params["p"], parameter.detach(), rtol=1e-7, atol=1e-9)  # the rate was float32


def test_interquartile_means_leave_out_a_quarter_on_either_side(benchmark):
    table = benchmark("learned_adam_table")
    values = np.array([9.0, 1.0, np.inf, 2.0, 3.0, 4.0, 5.0, 6.0, -50.0, 7.0])
    assert table.interquartile_mean(values) == pytest.approx((0.5 * 2 + 3 + 4 + 5 + 6 + 0.5 * 7) / 5)
    low, high = table.interval(np.arange(10.0))
    assert low < 4.5 < high


@pytest.mark.parametrize(("ours", "theirs", "verdict"), [
    (0.1, 0.5, "ahead"), (0.5, 0.1, "behind"), (0.5, 0.5, "equal"),
    (np.nan, np.nan, "diverged"), (np.inf, 0.5, "diverged"), (0.5, np.inf, "diverged"),
])  # fmt: skip
def test_no_learned_rule_that_diverged_counts_as_equal_to_a_tuned_one(benchmark, ours, theirs, verdict):
    shared = {"cell": "data", "steps": "9", "valid_loss": theirs, "optimizer": "SGD", "schedule": "cosine", "rate": 0.1}
    rows = [{**shared, "part": part, "number": n} for part in ("tuning", "trial") for n in range(4)]
    learned = {"optimizer": "LearnedAdam", "schedule": "learned", "rate": 1.0, "valid_loss": ours}
    rows += [{**row, **learned} for row in rows if row["part"] == "trial"]
    _, cells = benchmark("learned_adam_table").lines(rows, "valid_loss")
    assert [cell.rpartition(", ")[2] for cell in cells[-2:]] == [verdict, verdict]


@pytest.mark.slow
def test_trainings_of_learned_and_tuned_rules_start_alike_and_what_is_there_is_not_measured_again(
    benchmark, capsys, monkeypatch, tmp_path
):
    learned, tasks = benchmark("learned_adam"), benchmark("learned_tasks")
    small = {
        name: dataclasses.replace(tasks.CELLS["data"], name=name, steps=1, task=lambda _: Classification(digits()))
        for name in ("one", "other")
    }
    monkeypatch.setattr(learned, "CELLS", small)
    monkeypatch.setattr(learned, "COPIES", {"tuning": 1, "trial": 2})
    learned.main(["--data", str(tmp_path), "--out", str(tmp_path)])
    assert "| other | 1 |" in capsys.readouterr().out
    written = (tmp_path / "learned_adam.csv").read_text()
    rows = list(csv.DictReader(written.splitlines()))
    tuning = [row for row in rows if row["part"] == "tuning"]
    assert len(tuning) == 2 * 2 * 2 * 9
    assert {row["optimizer"] for row in rows if row["part"] == "trial"} == {"LearnedAdam", "SGD", "AdamW"}
    slow = [float(row["mean_loss"]) for row in tuning if row["cell"] == "one" and float(row["rate"]) <= 3e-3]
    assert max(slow) - min(slow) < 0.05
    learned.main(["--data", str(tmp_path), "--out", str(tmp_path)])
    assert (tmp_path / "learned_adam.csv").read_text() == written
