import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from patience import LONG

from cockpit import load_run
from cockpit.commands import demo
from cockpit.datasets import DataError, digits
from cockpit.store import RunIsLive


def run_demo(logdir, **options):
    demo.run(demo.Options(**{"steps": 40, "track": 10, "port": 0, "exit": True, "logdir": logdir, **options}))


def test_the_demo_logs_its_readings_and_the_validation_accuracy(tmp_path, capsys):
    run_demo(tmp_path)
    run = load_run(tmp_path / "demo-healthy")
    assert run.state == "finished"
    assert {"loss", "alpha", "norm_test", "grad_hist_1d", "valid/accuracy"} <= set(run.keys())
    captured = capsys.readouterr()
    assert re.search(r"^Dashboard: http://127\.0\.0\.1:\d+", captured.out)
    assert re.search(r"loss \d\.\d+, cockpit \+\d+%", captured.err)


def test_the_same_seed_gives_the_same_readings(tmp_path):
    runs = []
    for name in ("a", "b"):
        run_demo(tmp_path / name, steps=25)
        runs.append(load_run(tmp_path / name / "demo-healthy"))
    for key in ("loss", "grad_norm", "distance"):
        np.testing.assert_allclose(runs[0][key].values, runs[1][key].values, rtol=1e-5)  # sums in other orders


def test_the_raw_pixels_twin_fills_the_end_bins(tmp_path):
    run_demo(tmp_path, fault="raw-pixels")
    healthy, raw = (load_run(tmp_path / f"demo-{name}")["grad_hist_1d"].values for name in ("healthy", "raw-pixels"))
    assert healthy[:, [0, -1]].sum() == 0
    assert raw[:, [0, -1]].sum() / raw.sum() > 1e-4


def test_the_frozen_twin_has_a_layer_with_gradients_that_never_moves(tmp_path):
    run_demo(tmp_path, fault="frozen-layer")
    run = load_run(tmp_path / "demo-frozen-layer")
    moved = dict(zip(run["distance"].layers.names, run["distance"].layers.values[-1], strict=True))
    gradients = dict(zip(run["grad_norm"].layers.names, run["grad_norm"].layers.values[-1], strict=True))
    assert [name for name, distance in moved.items() if distance == 0] == ["conv2.weight", "conv2.bias"]
    assert gradients["conv2.weight"] > 0


def test_the_sigmoid_twin_has_vanishing_gradients_in_its_first_layer(tmp_path):
    run_demo(tmp_path, fault="sigmoid")
    shares = []
    for name in ("healthy", "sigmoid"):
        layers = load_run(tmp_path / f"demo-{name}")["grad_norm"].layers
        first, last = (layers.values[-1, layers.names.index(layer)] for layer in ("conv1.weight", "fc2.weight"))
        shares.append(first / last)
    healthy, sigmoid = shares
    assert sigmoid < healthy / 10


def test_twins_start_from_the_same_parameters(tmp_path):
    options = demo.Options(logdir=tmp_path)
    images = digits()
    twins = [demo.Trainee(images, fault, options) for fault in (None, "frozen-layer")]
    for a, b in zip(*(twin.model.parameters() for twin in twins), strict=True):
        assert torch.equal(a, b)
    for twin in twins:
        twin.cockpit.close()


def test_a_demo_that_is_still_running_is_not_written_over(tmp_path):
    running = demo.Trainee(digits(), None, demo.Options(logdir=tmp_path))
    with running.cockpit, pytest.raises(RunIsLive, match="demo-healthy"):
        run_demo(tmp_path)


def test_mnist_needs_a_directory():
    with pytest.raises(DataError, match="--data-dir"):
        demo.load(demo.Options(data="mnist"))


def test_a_directory_that_the_digits_do_not_need_is_not_ignored(tmp_path):
    with pytest.raises(DataError, match="--data mnist"):
        demo.load(demo.Options(data_dir=tmp_path))


def test_the_demo_trains_on_mnist(tmp_path, data_dir):
    run_demo(tmp_path, steps=3, data="mnist", data_dir=data_dir / "mnist")
    assert load_run(tmp_path / "demo-healthy").config["data"] == "mnist"


@pytest.mark.slow
def test_the_demo_serves_on_after_training_until_ctrl_c(tmp_path):
    command = [Path(sys.executable).with_name("cockpit"), "demo", "--steps", "5", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[-1]
            assert "Ctrl-C" in process.stdout.readline()
            with urlopen(url, timeout=LONG) as page:
                assert page.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(LONG) == 0
        finally:
            process.kill()
