"""A run in PostgreSQL from training to the page: as one in a directory, and the password is nowhere."""

import json
from urllib.parse import quote

import numpy as np
import pytest
import torch
from loop import Loop
from private_postgres import PASSWORD

from cockpit import Cockpit, list_runs, load_run
from cockpit.cli import main
from cockpit.dashboard.answer import answer
from cockpit.dashboard.page import Choice
from cockpit.dashboard.sources import Sources
from cockpit.plotter import CockpitPlotter
from cockpit.store import RunIsLive, Store

SECRETS = (PASSWORD, quote(PASSWORD, safe=""))


@pytest.fixture
def database(postgres):
    return postgres.empty()


@pytest.fixture
def train(database):
    """``train(name, steps, **options)`` is a cockpit that has watched some steps; the test's end closes it."""
    made = []

    def trained(name="vision/mnist-sgd", steps=5, **options):
        loop = Loop()
        made.append(Cockpit(loop.model, loop.optimizer, run=f"{database}/{name}", track=1, **options))
        loop.steps(made[-1], steps)
        made[-1].log({"valid/accuracy": 0.5})
        return made[-1]

    yield trained
    for cockpit in made:
        cockpit.close()


def hidden(text):
    return not any(secret in text for secret in SECRETS)


def test_a_run_is_written_and_read_by_its_address(train, database, capsys):
    cockpit = train(config={"lr": 0.1}, tags="tag")
    assert hidden(f"{cockpit.run} {cockpit.run!r} {capsys.readouterr().err}")
    cockpit.close()
    run = load_run(f"{database}/vision/mnist-sgd")
    assert (run.name, run.state, run.config, run.tags) == ("vision/mnist-sgd", "finished", {"lr": 0.1}, ("tag",))
    assert list(run["loss"].steps) == list(range(5))
    assert list(run["grad_norm"].layers.values.shape) == [5, 4]
    assert list(run["valid/accuracy"].values) == [0.5]
    assert load_run(cockpit.run)["loss"].values.tolist() == run["loss"].values.tolist()
    (summary,) = list_runs(database)
    assert (summary.name, summary.last_step, summary.last_loss) == ("vision/mnist-sgd", 4, run["loss"].values[-1])


def test_names_are_taken_continued_and_refused_as_in_a_directory(train, database, capsys):
    first = train()
    with pytest.raises(RunIsLive, match="is being written by this process"):
        train()
    first.close()
    second = train()
    assert second.run.name == "vision/mnist-sgd-2"
    assert "holds a finished run; this one is postgresql+psycopg://ada:***@" in capsys.readouterr().err
    second.close()
    train(resume=True).close()
    assert list(load_run(f"{database}/vision/mnist-sgd")["loss"].steps) == list(range(10))
    assert {summary.name for summary in list_runs(database)} == {"vision/mnist-sgd", "vision/mnist-sgd-2"}


def test_the_command_line_takes_addresses(train, database, capsys, tmp_path):
    train().close()
    capsys.readouterr()
    assert main(["runs", database]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["vision/mnist-sgd", "finished", "4"]
    assert main(["export", f"{database}/vision/mnist-sgd", "--to", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["series"]["loss"]["steps"] == list(range(5))
    for wrong in (f"{database}/vision/mnist-sdg", f"{database[:-9]}/", "mysql://ada:secret@db/x", f"{database}-not"):
        assert main(["export", wrong, "--to", "csv"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert hidden(said)
        assert "secret" not in said


def test_the_page_shows_a_run_of_a_database_and_says_when_that_is_away(train, database, postgres):
    train()
    sources, shown = Sources(Store(database)), {}
    found = answer(sources, Choice.from_page({}), shown, [], list_runs=True)
    assert "vision/mnist-sgd" in str(found)
    assert hidden(str(found))
    postgres.stop()
    try:
        for list_runs in (True, False):
            found = answer(sources, Choice.from_page({"run": "vision/mnist-sgd"}), shown, [], list_runs=list_runs)
            assert "cannot be" in str(found)
            assert hidden(str(found))
    finally:
        postgres.start()
    found = answer(sources, Choice.from_page({}), shown, [], list_runs=True)
    assert "vision/mnist-sgd" in str(found)


def test_the_static_screen_is_drawn_from_a_database(train, database, tmp_path):
    train().close()
    CockpitPlotter().plot(f"{database}/vision/mnist-sgd", show_plot=False, savedir=tmp_path)
    assert (tmp_path / "cockpit.png").stat().st_size > 10_000


def test_a_run_goes_on_at_an_earlier_step_with_the_distance_from_where_it_began(database):
    loop, name = Loop(), f"{database}/resumed"
    start, expected = [p.clone() for p in loop.parameters()], []
    for resume, steps in ((False, 6), (4, 3)):
        with Cockpit(
            loop.model, loop.optimizer, run=name, track=1, instruments="loss+distance", resume=resume
        ) as cockpit:
            for _ in range(steps):
                moved = torch.cat([(p - q).flatten() for p, q in zip(loop.parameters(), start, strict=True)])
                expected.append(float(moved.norm()))
                loop.steps(cockpit, 1)
    run = load_run(name)
    assert list(run["loss"].steps) == list(range(7))
    np.testing.assert_allclose(run["distance"].values, expected[:4] + expected[6:], rtol=1e-5)
    assert not run["distance"].missing.any()
    assert run.reader.column("loss", attempt=1).steps.tolist() == list(range(6))
    assert [attempt.first_step for attempt in run.reader.attempts()] == [0, 4]


def test_processes_of_a_job_write_one_run_of_a_database(database, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    loops, cockpits = (Loop(0), Loop(1)), []
    for rank, loop in enumerate(loops):
        monkeypatch.setenv("RANK", str(rank))
        cockpits.append(Cockpit(loop.model, loop.optimizer, run=f"{database}/of/two", track=1, instruments="loss"))
    for cockpit, loop in zip(cockpits, loops, strict=True):
        loop.steps(cockpit, 3)
        cockpit.close()
    run = load_run(f"{database}/of/two")
    assert (run.ranks, run.state) == ((0, 1), "finished")
    assert run["loss"].values.tolist() != run.rank(1)["loss"].values.tolist()
    (summary,) = list_runs(database)
    assert (summary.name, summary.processes) == ("of/two", 2)
    assert main(["export", f"{database}/of/two/rank1", "--to", "json"]) == 0
    exported = json.loads(capsys.readouterr().out)["series"]["loss"]["values"]
    assert exported == run.rank(1)["loss"].values.tolist()
