"""Several processes of one training job: who names the run, how the others find it, and what each reads."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from one_of_several import CLIPPED_TO, STEPS
from patience import LONG
from ports import quiet_port

from cockpit import Cockpit, CockpitWarning, list_runs, load_run
from cockpit.reading import Reading
from cockpit.store import Header, Reader, RunIsLive
from cockpit.tracking import job
from cockpit.tracking.following import follow
from cockpit.tracking.job import Job, this_job
from cockpit.tracking.places import open_log

VARIABLES = ("RANK", "WORLD_SIZE", *job._NAMES)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """No job but the test's own."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(job, "PATIENCE", LONG)


@pytest.fixture
def opened():
    """Logs that the test's end closes."""
    logs = []
    yield logs
    for log in logs:
        log.writer.close()


def led(opened, place, size=2, resume=False, name="job"):
    opened.append(open_log(place, Header("", 0.0), resume, Job(0, size, name)))
    return opened[-1]


def followed(opened, place, rank=1, size=2, resume=False, name="job"):
    log = follow(place, Header("", 0.0), resume, Job(rank, size, name))
    if log is not None:
        opened.append(log)
    return log


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, Job()),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Job()),
        ({"RANK": "2", "WORLD_SIZE": "4"}, Job(2, 4)),
        ({"RANK": "3"}, Job(3, 4)),
        ({"RANK": "one", "WORLD_SIZE": "4"}, Job()),
        ({"WORLD_SIZE": "4"}, Job()),
    ],
)
def test_a_process_is_what_its_launcher_says(variables, found, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert this_job() == found


def test_a_jobs_processes_know_it_by_one_id_and_others_do_not(monkeypatch):
    ids = []
    for variables in (
        {"MASTER_ADDR": "node0", "MASTER_PORT": "1234", "RANK": "0"},
        {"MASTER_ADDR": "node0", "MASTER_PORT": "1234", "RANK": "1"},
        {"MASTER_ADDR": "node0", "MASTER_PORT": "1235", "RANK": "1"},
        {"MASTER_ADDR": "node0", "MASTER_PORT": "1234", "RANK": "1", "TORCHELASTIC_RESTART_COUNT": "1"},
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            ids.append(this_job().id)
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("size", [1, 2, 4, 64])
def test_the_processes_parts_of_the_budget_add_up_to_it(size):
    parts = [Job(rank, size).part for rank in range(size)]
    assert sum(parts) == pytest.approx(1)
    assert parts[0] >= max(parts)


def test_the_others_write_into_the_run_that_the_first_has_opened(opened, tmp_path):
    led(opened, tmp_path / "run").writer.close()
    first = led(opened, tmp_path / "run", size=3)  # with a suffix, because that name is taken
    others = [followed(opened, tmp_path / "run", rank, size=3) for rank in (2, 1)]
    assert [log.place for log in others] == [tmp_path / "run-2"] * 2 == [first.place] * 2
    assert load_run(tmp_path / "run-2").ranks == (0, 1, 2)
    assert load_run(tmp_path / "run").ranks == (0,)


def test_a_process_that_comes_early_waits_for_the_first(opened, tmp_path):
    thread = threading.Thread(target=followed, args=(opened, tmp_path / "run"))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    assert not (tmp_path / "run").exists()
    led(opened, tmp_path / "run")
    thread.join(LONG)
    assert sorted(file.name for file in (tmp_path / "run").glob("*.db")) == ["rank0.db", "rank1.db"]


def test_another_jobs_run_of_the_same_name_is_passed_over(opened, tmp_path):
    led(opened, tmp_path / "run", name="other job")
    with pytest.raises(RunIsLive):
        led(opened, tmp_path / "run")
    mine = open_log(tmp_path / "run-2", Header("", 0.0), False, Job(0, 2, "job"))
    opened.append(mine)
    assert followed(opened, tmp_path / "run").place == tmp_path / "run-2"


def test_a_run_whose_first_process_is_gone_is_not_joined(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "PATIENCE", 0.1)
    led(opened, tmp_path / "run").writer.close("crashed")
    assert followed(opened, tmp_path / "run") is None
    assert load_run(tmp_path / "run").ranks == (0,)


def test_unnamed_runs_are_found_by_the_job(opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train[1].py"])
    led(opened, None, name="other job")
    first = led(opened, None)
    assert followed(opened, None).place == first.place


def test_a_resumed_job_goes_on_at_the_first_processs_step(opened, tmp_path):
    place = tmp_path / "run"
    for log, last in ((led(opened, place), 7), (followed(opened, place), 9)):
        for step in range(last + 1):
            log.writer.put(step, 0.1 * step, {"loss": Reading(float(step))})
        log.writer.close("crashed")
    first, second = led(opened, place, resume=True), followed(opened, place, resume=True)
    assert (first.next_step, second.next_step) == (8, 8)
    second.writer.put(8, 2.0, {"loss": Reading(-1.0)})
    second.writer.close()
    assert load_run(place).rank(1)["loss"].values[-2:].tolist() == [7.0, -1.0]  # its own step 9 is overtaken
    late = followed(opened, place, resume=True, rank=1)
    assert late.writer.attempt == 3


def test_a_process_that_joins_a_resumed_job_begins_at_its_step(opened, tmp_path):
    log = led(opened, tmp_path / "run")
    log.writer.put(41, 1.0, {"loss": Reading(0.0)})
    log.writer.close()
    led(opened, tmp_path / "run", resume=True)
    assert followed(opened, tmp_path / "run", resume=True).next_step == 42
    led(opened, tmp_path / "other", resume=120)
    assert followed(opened, tmp_path / "other", resume=120).next_step == 120


def test_without_a_first_process_a_cockpit_says_so_and_reads_nothing(loop, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(job, "PATIENCE", 0.1)
    with pytest.warns(CockpitWarning, match="this is process 1 of 2, and the first one has opened no run within 0 s"):
        cockpit = Cockpit(loop.model, loop.optimizer, run=tmp_path / "run")
    loop.steps(cockpit, 2)
    cockpit.close()
    assert (cockpit.enabled, cockpit.run) == (False, None)
    assert list(tmp_path.iterdir()) == []


def test_processes_other_than_the_first_are_silent(begin, loop, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    first = begin()
    monkeypatch.setenv("RANK", "1")
    second = begin()
    capsys.readouterr()
    for _ in range(2):
        with second.step():
            loop.optimizer.zero_grad()  # no loss, which the first process would be warned of
            loop.optimizer.step()
    second.write(tmp_path / "of-the-second")
    second.close()
    first.close()
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "of-the-second.json").exists()
    said = [event for event in load_run(tmp_path / "run").events() if event.kind == "warning"]
    assert {event.rank for event in said} == {1}


def test_distance_of_a_resumed_job_is_measured_from_the_first_processs_start(loop, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    start, expected = torch.cat([p.flatten() for p in loop.parameters()]), []
    for resume in (False, True):
        cockpits = []
        for rank in ("0", "1"):
            monkeypatch.setenv("RANK", rank)
            cockpits.append(
                Cockpit(
                    loop.model, loop.optimizer, run=tmp_path / "run", track=1, instruments="distance", resume=resume
                )
            )
        for cockpit in cockpits:
            for _ in range(2):
                expected.append(float((torch.cat([p.flatten() for p in loop.parameters()]) - start).norm()))
                loop.steps(cockpit, 1)
        for cockpit in cockpits:
            cockpit.close()
    distances = load_run(tmp_path / "run").rank(1)["distance"]
    assert list(distances.steps) == [0, 1, 2, 3]
    assert not distances.missing.any()
    np.testing.assert_allclose(distances.values, expected[2:4] + expected[6:], rtol=1e-5)
    assert list(Reader(tmp_path / "run" / "rank1.db").pieces("start")) == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What two processes of a real job saw, by rank; their runs are in the directory that comes with it."""
    directory = tmp_path_factory.mktemp("job")
    port = str(quiet_port())
    script = Path(__file__).with_name("one_of_several.py")
    processes = []
    for rank in (0, 1):
        of_job = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-W", "error::UserWarning:cockpit", script, directory]
        processes.append(
            subprocess.Popen(
                command, env={**os.environ, **of_job, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
            )
        )
    said = []
    try:
        for process in processes:
            said.append(process.communicate(timeout=LONG)[1])
            assert process.returncode == 0, said[-1]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    saw = [json.loads((directory / f"{rank}.json").read_text()) for rank in (0, 1)]
    return directory / "runs", saw, said


@pytest.mark.slow
class TestDistributedTraining:
    """Two processes, ``DistributedDataParallel`` on gloo."""

    def test_training_is_the_same_to_the_last_bit(self, trained):
        _, saw, _ = trained
        assert [of_one["same"] for of_one in saw] == [True, True]

    def test_all_processes_write_the_run_that_the_first_one_names(self, trained):
        runs, _, said = trained
        assert {run.name for run in list_runs(runs)} == {"from-0", "waits", "at-once"}
        (summary,) = [run for run in list_runs(runs) if run.name == "from-0"]
        assert (summary.state, summary.processes) == ("finished", 2)
        assert load_run(runs / "from-0").ranks == (0, 1)
        assert "from-0" in said[0]
        assert "->" not in said[1]

    def test_losses_and_gradients_are_of_each_processs_own_samples(self, trained):
        runs, saw, _ = trained
        run = load_run(runs / "from-0")
        for rank in run.ranks:
            for key, name in (("loss", "loss"), ("grad_norm", "own")):
                expected = [step[name] for step in saw[rank]["saw"]]
                np.testing.assert_allclose(run.rank(rank)[key].values, expected, rtol=1e-9)
            assert not run.rank(rank)["norm_test"].missing.any()
            assert not run.rank(rank)["alpha"].missing[1:-1].any()
        assert saw[0]["saw"][0]["own"] != pytest.approx(saw[1]["saw"][0]["own"], rel=0.01)

    def test_what_moves_the_parameters_is_everybodys(self, trained):
        run = load_run(trained[0] / "from-0")
        for key in ("update_size", "distance"):
            np.testing.assert_array_equal(run.rank(0)[key].values, run.rank(1)[key].values)

    def test_clipping_is_told_of_the_averaged_gradient(self, trained):
        runs, saw, _ = trained
        run = load_run(runs / "from-0")
        averaged = np.array([step["averaged"] for step in saw[0]["saw"]])
        assert len(averaged) == STEPS
        assert (averaged > 1.1 * CLIPPED_TO).any()
        for rank in run.ranks:
            left = run.rank(rank)["clip.left"].values
            np.testing.assert_allclose(left, np.minimum(1, CLIPPED_TO / (averaged + 1e-6)), rtol=1e-9)

    def test_passes_of_which_only_the_last_averages_are_one(self, trained):
        runs, saw, _ = trained
        for rank in (0, 1):
            norms = load_run(runs / "waits").rank(rank)["grad_norm"].values
            np.testing.assert_allclose(norms, [saw[rank]["waits"]], rtol=1e-9)

    def test_passes_that_average_one_by_one_are_withheld_with_a_reason(self, trained):
        run = load_run(trained[0] / "at-once")
        for rank in (0, 1):
            assert run.rank(rank)["grad_norm"].missing.all()
        assert {event.rank for event in run.events() if "no_sync()" in event.text} == {0, 1}

    def test_metrics_of_the_users_own_are_each_processs(self, trained):
        run = load_run(trained[0] / "from-0")
        assert [run.rank(rank)["valid/accuracy"].values.tolist() for rank in run.ranks] == [[0.0], [0.1]]
