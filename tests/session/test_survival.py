"""Real training processes: interrupted, ended without a word, with forked workers, without room to write.

What killed ones lose is counted in test_killed_trainings.py.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from loop import Loop, events
from patience import LONG

from cockpit import Cockpit, CockpitWarning, load_run
from cockpit.clash import OTHERS, check_for_clash
from cockpit.store import RunIsLive

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, fork and limits are POSIX")

SETUP = """
import sys, time
import torch
import torch.nn.functional as F
from torch import nn
from cockpit import Cockpit

torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def backward(x=None):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(torch.randn(8, 4) if x is None else x), torch.randint(3, (8,)))
    loss.backward()
    return loss

cockpit = Cockpit(model, optimizer, run=sys.argv[1], track=1)
"""

FOR_EVER = """
step = 0
while True:
    with cockpit.step():
        backward()
        optimizer.step()
    print(step, time.time(), flush=True)
    step += 1
    time.sleep(0.003)
"""


@pytest.fixture
def child():
    """``child(code, *arguments)`` starts a Python process of its own; the test's end kills what is left of it."""
    processes = []

    def begin(code: str, *arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-W", "error::UserWarning", "-c", code, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def follow(process: "subprocess.Popen[str]", count: int) -> list[tuple[int, float]]:
    """Steps that the child has made, and when."""
    steps = []
    for line in process.stdout or ():
        step, moment = line.split()
        steps.append((int(step), float(moment)))
        if len(steps) == count:
            break
    return steps


def ended(process: "subprocess.Popen[str]") -> tuple[str, str]:
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, err
    return out, err


def test_a_live_training_is_refused_and_control_c_ends_it_as_interrupted_with_everything_in_it(child, tmp_path):
    code = SETUP + "with cockpit:\n" + "".join(f"    {line}\n" for line in FOR_EVER.splitlines())
    process = child(code, tmp_path / "run")
    made = follow(process, 50)
    loop = Loop()
    with pytest.raises(RunIsLive, match=f"run is being written by process {process.pid} .*: close that run first"):
        Cockpit(loop.model, loop.optimizer, run=tmp_path / "run", resume=True)
    process.send_signal(signal.SIGINT)
    made += follow(process, 10**9)
    _, err = process.communicate(timeout=LONG)
    assert err.strip().splitlines()[-1].startswith("KeyboardInterrupt")
    run = load_run(tmp_path / "run")
    assert run.state == "interrupted"
    assert len(run["loss"].steps) in (len(made), len(made) + 1)  # interrupted before or after its line was printed


WITHOUT_CLOSING = """
for step in range(30):
    with cockpit.step():
        backward()
    optimizer.step()
cockpit.log({"valid/accuracy": 0.5})
with cockpit.step():
    backward()
"""


@pytest.mark.parametrize("ending", ["", "raise ValueError('the user')"])
def test_a_training_that_ends_without_closing_has_everything_in_its_log(ending, child, tmp_path):
    process = child(SETUP + WITHOUT_CLOSING + ending, tmp_path / "run")
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == (1 if "raise" in ending else 0), err
    run = load_run(tmp_path / "run")
    assert list(run["loss"].steps) == list(range(31))
    assert list(run["update_size"].steps) == list(range(31))
    assert run["update_size"].values[30] == 0  # its optimizer never stepped
    assert list(run["valid/accuracy"].steps) == [29]
    assert run.state == "interrupted"
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["rank0.db"]


WORKERS = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside a thread is what is tried here
from torch.utils.data import DataLoader, TensorDataset

data = DataLoader(TensorDataset(torch.randn(64, 4)), batch_size=8, num_workers=2, multiprocessing_context="fork")
with cockpit:
    for epoch in range(2):
        for (x,) in data:
            with cockpit.step():
                backward(x)
                optimizer.step()
    with cockpit.step():
        (x,) = next(iter(data))  # forks with all hooks in place
        backward(x)
        optimizer.step()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_workers_of_a_data_loader_leave_the_log_alone(child, tmp_path):
    ended(child(SETUP + WORKERS, tmp_path / "run"))
    run = load_run(tmp_path / "run")
    assert run.state == "finished"
    assert list(run["loss"].steps) == list(range(17))
    assert not run["norm_test"].missing.any()
    assert events(tmp_path) == []


FULL = (
    f"LONG = {LONG}"
    + """
import resource, warnings
warnings.simplefilter("default")
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
def train(steps):
    for _ in range(steps):
        with cockpit.step():
            backward()
            optimizer.step()

train(5)
assert cockpit._writer.flush(LONG)
resource.setrlimit(resource.RLIMIT_FSIZE, (cockpit._writer.path.stat().st_size, limit[1]))
train(200)
print(cockpit._writer.flush(0.7))
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
train(5)
cockpit.close()
"""
)


def test_a_full_disk_is_said_once_and_training_goes_on(child, tmp_path):
    out, err = ended(child(SETUP + FULL, tmp_path / "run"))
    assert out.split() == ["False"]
    assert err.count("cannot be written") == 1
    assert "Training goes on; writing is tried again" in err
    run = load_run(tmp_path / "run")
    assert list(run["loss"].steps) == list(range(210))
    assert run.state == "finished"


# What an import brings


def test_reading_a_log_imports_no_torch(child):
    code = """
import json, sys
import cockpit, cockpit.run, cockpit.store
from cockpit import every, load_run, list_runs, log_spaced, Histogram, Panel, Reading
print(json.dumps(sorted({"torch", "dash", "matplotlib", "sklearn"} & set(sys.modules))))
"""
    assert json.loads(ended(child(code))[0]) == []


def installed(place: Path, name: str, folder: str = "cockpit") -> None:
    """What a package index would leave behind for a distribution with a package of this name."""
    (place / folder).mkdir(parents=True, exist_ok=True)
    (place / folder / "__init__.py").touch()
    info = place / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


def test_another_distribution_of_the_same_import_name_is_pointed_out_at_import(child, tmp_path):
    installed(tmp_path, "cockpit-for-pytorch")
    code = "import sys; sys.path.append(sys.argv[1]); from cockpit import Cockpit"
    _, err = child(code, tmp_path).communicate(timeout=LONG)
    said = err.strip().splitlines()[-1]
    assert said.startswith("cockpit.CockpitWarning: the distribution 'cockpit-for-pytorch' (the ancestor")
    assert f"in {tmp_path} is imported as 'cockpit', too" in said
    assert said.endswith("pip uninstall cockpit-for-pytorch")


@pytest.mark.parametrize("name", OTHERS)
def test_another_distribution_of_the_same_import_name_is_named(name, tmp_path, monkeypatch):
    installed(tmp_path, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(CockpitWarning, match=f"the distribution '{name}' .* is imported as 'cockpit', too"):
        check_for_clash()


@pytest.mark.parametrize("name", OTHERS)
def test_another_distribution_in_the_same_folder_is_refused(name, tmp_path, monkeypatch):
    installed(tmp_path, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=f"'{name}' .* is installed over this package, in .*pip uninstall -y {name}"):
        check_for_clash(here=tmp_path / "cockpit")


def test_a_distribution_of_the_name_that_brings_no_such_package_is_none_of_ours(tmp_path, monkeypatch):
    installed(tmp_path, "cockpit", folder="elsewhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    check_for_clash()
