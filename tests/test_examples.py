"""Examples as scripts, each in a process of its own: all are forked from one that has imported what takes long to."""

import multiprocessing
import os
import runpy
import sys
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from patience import LONG

from cockpit import load_run
from cockpit.instrument import registered
from cockpit.testing import check_panel

EXAMPLES = Path(__file__).parents[1] / "examples"


PROCESSES = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)
PROCESSES.set_forkserver_preload(["torch._dynamo", "sklearn.datasets", "matplotlib.pyplot", "numba", "cockpit.session"])


def live(script, arguments, folder, printed):
    """What such a process does: what ``python -W error SCRIPT …`` does in that folder."""
    os.chdir(folder)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    warnings.simplefilter("error")
    said = printed.with_suffix(".err")
    with printed.open("w") as out, said.open("w") as err, redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except BaseException:
            traceback.print_exc()
            raise


def run_example(script, *arguments, cwd):
    printed = cwd / "printed.out"
    process = PROCESSES.Process(target=live, args=(EXAMPLES / script, [str(each) for each in arguments], cwd, printed))
    process.start()
    process.join(4 * LONG)
    process.kill()
    process.join()
    assert process.exitcode == 0, printed.with_suffix(".err").read_text()
    return printed.read_text()


@pytest.mark.slow
def test_minimal_writes_a_log_and_a_picture(tmp_path):
    run_example("minimal.py", "--epochs", "2", cwd=tmp_path)
    assert (tmp_path / "runs" / "minimal" / "rank0.db").is_file()
    assert (tmp_path / "minimal.png").stat().st_size > 10_000


def test_raw_pixels_fill_the_end_bins_and_scaled_ones_do_not(tmp_path):
    printed = run_example("raw_pixels.py", "--steps", "12", cwd=tmp_path)
    shares = [float(line.partition(", ")[2].split("%")[0].split()[-1]) for line in printed.splitlines()[:2]]
    scaled, raw = shares
    assert scaled == 0
    assert raw > 0.01
    assert (tmp_path / "raw_pixels.png").stat().st_size > 10_000


def test_raw_pixels_runs_on_cifar(tmp_path, data_dir):
    printed = run_example("raw_pixels.py", "--steps", "2", "--cifar", data_dir / "cifar10_subset.npz", cwd=tmp_path)
    assert "raw, 0 to 255: loss" in printed


def test_an_instrument_of_the_scripts_own_is_logged_and_drawn_where_its_class_is_unknown(tmp_path):
    run_example("own_instrument.py", "--steps", "40", cwd=tmp_path)
    assert (tmp_path / "own_instrument.png").stat().st_size > 10_000
    assert "effective_samples" not in registered()
    check_panel(tmp_path / "runs" / "effective-0", "effective_samples")
    layers = load_run(tmp_path / "runs" / "effective-0")["effective_samples"].layers
    assert layers.names == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert ((layers.values >= 1) & (layers.values <= 128 + 1e-9)).all()


def test_losses_are_learned_and_drawn(tmp_path):
    printed = run_example("learned_loss.py", "--iterations", "10", "--seeds", "1", cwd=tmp_path)
    assert printed.count(" after a step; ") == 4
    assert (tmp_path / "learned_loss.png").stat().st_size > 10_000


def test_adahessian_takes_a_diagonal_that_is_better_than_its_own(tmp_path):
    printed = run_example("adahessian.py", "--steps", "3", cwd=tmp_path)
    errors = [float(line.split("error ")[1].split(",")[0]) for line in printed.splitlines() if "error " in line]
    own, gauss_newton, hutchinson = errors
    assert gauss_newton < own / 2
    assert hutchinson == pytest.approx(own, rel=0.5)  # the same estimate, from other random signs
    assert (tmp_path / "adahessian.png").stat().st_size > 10_000


def test_any_loss_scale_does_for_the_sources_adam_and_ours_is_torchs(tmp_path):
    printed = run_example("loss_scaling.py", "--models", "C", "--seconds", "0", cwd=tmp_path).splitlines()
    far = {line.split(": ")[0]: float(line.split(": ")[1].split()[0]) for line in printed if "from torch" in line}
    own = far.pop("cockpit, loss × 1000")
    assert own < 1e-5
    assert min(far.values()) > 1e-3
    assert max(far.values()) < 1.1 * min(far.values())
    assert (tmp_path / "loss_scaling.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_layerwise_rule_is_learned_and_tried(tmp_path):
    printed = run_example("layerwise_rule.py", "--episodes", "1", "--seeds", "2", cwd=tmp_path)
    assert [line.split(":")[0] for line in printed.splitlines()[:3]] == ["LURE", "Meta-SGD", "Meta-SGD, rates only"]
    assert (tmp_path / "layerwise_rule.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_half_precision_rule_is_learned_watched_and_compared(tmp_path):
    printed = run_example("half_precision_rule.py", "--episodes", "2", "--steps", "4", "--seeds", "2", cwd=tmp_path)
    assert [line.split(":")[0] for line in printed.splitlines()[:2]] == ["MPT_LURE", "unscale + Adam, 0.001"]
    for seed in (0, 1):
        assert load_run(tmp_path / "runs" / f"half-precision-rule-{seed}")["loss"].steps.tolist() == [0, 1]
    assert (tmp_path / "half_precision_rule.png").stat().st_size > 10_000


@pytest.mark.slow
def test_learned_updates_break_the_symmetries_that_gradient_descent_keeps(tmp_path):
    printed = run_example("learned_dynamics.py", "--steps", "11", "--seeds", "1", cwd=tmp_path).splitlines()[-9:-1]
    far = {line.split(":")[0]: float(line.split("deviation ")[1].split()[0]) for line in printed}
    for network in ("leaky_relu", "norm_relu"):
        assert far[f"{network}, SGD"] < 1e-4
        assert far[f"{network}, L2O"] > 0.01
    assert (tmp_path / "learned_dynamics.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_penalty_on_broken_symmetries_goes_into_meta_training(tmp_path):
    arguments = ("--iterations", "2", "--steps", "4", "--seeds", "1")
    printed = run_example("symmetry_penalty.py", *arguments, cwd=tmp_path).splitlines()
    assert [line.split(":")[0] for line in printed if "deviation" in line] == [
        f"{network}, β = {strength}" for network in ("leaky_relu", "norm_relu") for strength in ("0", "0.1", "1")
    ]
    config = load_run(tmp_path / "runs" / "penalty-meta-norm_relu-1-0").config
    assert config["penalty"] == "ScalePenalty(strength=1.0)"
    assert (tmp_path / "symmetry_penalty.png").stat().st_size > 10_000


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_each_example_keeps_a_small_picture_of_what_it_shows(script):
    picture = EXAMPLES / script.replace(".py", ".png")
    assert picture.stat().st_size < 150_000
