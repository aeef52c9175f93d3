"""The source's complete example, as it is printed, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cockpit import Cockpit, load_run
from cockpit.formats.json_log import output_of, read_json
from cockpit.utils.configuration import configuration, quantities_cls_for_configuration

HERE = Path(__file__).parent
STEPS = 50


def run_algorithm(directory: Path, data: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(HERE), *sys.path])
    threads = str(torch.get_num_threads())  # sums in another order round otherwise
    environment = {**os.environ, "COCKPIT_DATA": str(data), "MPLBACKEND": "agg", "PYTHONPATH": path}
    environment["OMP_NUM_THREADS"] = threads
    return subprocess.run(
        [sys.executable, HERE / "algorithm_c1.py"], cwd=directory, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def algorithm(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    directory = tmp_path_factory.mktemp("algorithm")
    done = run_algorithm(directory, data_dir)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The same training under a cockpit of the model."""
    directory = tmp_path_factory.mktemp("native")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COCKPIT_DATA", str(data_dir))
        patch.syspath_prepend(HERE)
        import _utils_examples as examples

        model = examples.cnn()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        instruments = [quantity.instrument() for quantity in configuration("full")]
        with Cockpit(model, optimizer, instruments=instruments, track=1, run=directory / "run") as cockpit:
            for _, (inputs, labels) in zip(range(STEPS), examples.fmnist_data(), strict=False):
                with cockpit.step():
                    optimizer.zero_grad()
                    F.cross_entropy(model(inputs), labels).backward()
                    optimizer.step()
    return directory / "run"


@pytest.mark.slow
def test_the_log_has_every_quantity_of_the_configuration_at_every_step(algorithm: Path) -> None:
    output = read_json(algorithm / "logs" / "mnist_cnn__sgd.json")
    names = {cls.__name__ for cls in quantities_cls_for_configuration("full")}
    assert list(output) == list(range(STEPS))
    for step, values in output.items():
        # The last step was never measured: nothing came after it.
        last = {"Alpha", "UpdateSize"} if step == STEPS - 1 else set()
        assert names - last <= set(values), step


def test_every_value_is_that_of_a_cockpit_of_the_model(algorithm: Path, native: Path) -> None:
    found, expected = read_json(algorithm / "logs" / "mnist_cnn__sgd.json"), output_of(load_run(native))
    for step, values in expected.items():
        for name in {cls.__name__ for cls in quantities_cls_for_configuration("full")} & set(values):
            if step == STEPS - 1 and name in ("Alpha", "UpdateSize"):
                continue
            ours = values[name]
            if isinstance(ours, dict):
                np.testing.assert_array_equal(found[step][name]["hist"], ours["hist"])
            else:
                np.testing.assert_allclose(found[step][name], ours, rtol=1e-6, err_msg=f"{name} at step {step}")


def test_the_run_is_finished_and_can_be_read_as_any_other(algorithm: Path) -> None:
    (place,) = (algorithm / "runs").iterdir()
    run = load_run(place)
    assert run.state == "finished"
    assert run["grad_norm"].layers.names == tuple(f"{i}.{kind}" for i in (0, 3, 6) for kind in ("weight", "bias"))
    assert run["alpha"].steps.tolist() == list(range(STEPS - 1))
