"""JSON logs of f-dangel/cockpit, read and written. ``peer.json`` is one of its own, see ``peer_log.py``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cockpit import Cockpit, CockpitPlotter, load_run
from cockpit.cli import main
from cockpit.formats.json_import import import_json, load_json
from cockpit.formats.json_log import HISTOGRAMS, KEYS, NORMS, NUMBERS, SUMS, output_of, read_json, write_json
from cockpit.instrument import configured
from cockpit.instruments import GradHist1d, TICDiag
from cockpit.run import Run

PEER = Path(__file__).with_name("peer.json")


def raw() -> dict[int, dict[str, Any]]:
    """The log without any help."""
    return {int(step): values for step, values in json.loads(PEER.read_text()).items()}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place, left_out = import_json(PEER, tmp_path_factory.mktemp("imported") / "peer")
    assert left_out == ("Parameters",)
    return load_run(place)


def column(run: Run, key: str) -> dict[int, float]:
    return dict(zip(run[key].steps.tolist(), run[key].values.tolist(), strict=True))


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - {"Time"}))
def test_numbers_are_those_of_the_file(imported: Run, name: str) -> None:
    expected = {step: values[name] for step, values in raw().items() if name in values}
    assert len(expected) >= 3
    assert column(imported, KEYS[name]) == expected


def test_seconds_count_from_the_first_step(imported: Run) -> None:
    times = [values["Time"] for values in raw().values()]
    assert list(column(imported, "time").values()) == pytest.approx([t - times[0] for t in times], abs=1e-6)
    assert imported.header.created == times[0]


@pytest.mark.parametrize("name", sorted({*NORMS, *SUMS}))
def test_numbers_by_parameter_are_layers_and_make_one_of_the_network(imported: Run, name: str) -> None:
    quantity = imported[KEYS[name]]
    assert quantity.layers.names == tuple(f"parameter {i}" for i in range(4))
    for i, step in enumerate(quantity.steps.tolist()):
        parts = raw()[step][name]
        assert quantity.layers.values[i].tolist() == parts
        assert quantity.values[i] == pytest.approx(sum(parts) if name in SUMS else math.hypot(*parts))


def test_histograms_keep_their_counts_and_edges(imported: Run) -> None:
    one, two = imported["grad_hist_1d"], imported["grad_hist_2d"]
    for i, step in enumerate(one.steps.tolist()):
        entry = raw()[step]["GradHist1d"]
        assert one.values[i].tolist() == entry["hist"]["__ndarray__"]
    assert one.edges.tolist() == raw()[0]["GradHist1d"]["edges"]["__ndarray__"]
    assert two.steps.tolist() == [0, 2]
    for i, step in enumerate(two.steps.tolist()):
        entry = raw()[step]["GradHist2d"]
        assert two.values[i].tolist() == entry["hist"]["__ndarray__"]
        for j in range(4):
            assert two.layers.values[i, j].tolist() == entry[f"param_{j}"]["hist"]["__ndarray__"]
    assert two.edges.tolist() == raw()[0]["GradHist2d"]["edges"][0]["__ndarray__"]
    assert two.y_edges.tolist() == raw()[0]["GradHist2d"]["edges"][1]["__ndarray__"]


def test_what_was_logged_once_an_epoch_is_there(imported: Run) -> None:
    assert column(imported, "valid/loss") == {0: 0.71, 2: 0.71}
    assert column(imported, "train/accuracy") == {0: 0.5, 2: 0.5}
    assert column(imported, "learning_rate") == {0: 0.1, 2: 0.1}


def test_an_imported_run_has_the_panels_of_its_instruments(imported: Run) -> None:
    assert {"alpha", "grad_norm", "gradient_tests", "performance", "distances"} <= set(imported.header.panels)
    assert "noise_scale" not in imported.header.panels
    assert imported.state == "finished"


def test_the_command_imports_and_names_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(PEER)]) == 0
    out, err = capsys.readouterr()
    assert out == "runs/peer\n"
    assert "no run has a place for Parameters" in err
    assert load_run("runs/peer").keys()
    assert main(["import", str(PEER)]) == 2, "a run is there already"
    assert main(["import", str(PEER), "--to", "elsewhere/again"]) == 0
    assert load_run("elsewhere/again").name == "again"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "is no log of f-dangel/cockpit"),
        ("{", "is no log of f-dangel/cockpit"),
        ('{"one": {}}', "is no log of f-dangel/cockpit"),
        ('{"1": 3}', "is no log of f-dangel/cockpit"),
        ('{"1": {"GradNorm": 3}}', "its GradNorm cannot be read"),
        ('{"1": {"GradHist1d": {"hist": [1, 2]}}}', "its GradHist1d cannot be read: 'edges'"),
        ('{"1": {"GradHist1d": {"hist": [1, 2], "edges": [0, 1]}}}', "its GradHist1d cannot be read"),
        ('{"1": {"Loss": "high"}}', "its Loss cannot be read"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.json"
    path.write_text(text)
    assert main(["import", str(path), "--to", str(tmp_path / "run")]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(tmp_path / "log.json")]) == 2
    assert "log.json" in capsys.readouterr().err


def trained(path: Path, **options: Any) -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Cockpit(model, optimizer, run=path / "run", track=1, **options) as cockpit:
        for _ in range(4):
            with cockpit.step():
                optimizer.zero_grad()
                F.cross_entropy(model(torch.randn(8, 4)), torch.randint(3, (8,))).backward()
                optimizer.step()
            cockpit.log({"valid/accuracy": 0.5})
        cockpit.write(path / "logs" / "mine")
    return load_run(path / "run")


def test_what_a_cockpit_of_a_model_writes_comes_back(tmp_path: Path) -> None:
    run = trained(tmp_path, instruments=["business", GradHist1d(-0.5, 0.5, 6)])
    back = load_json(tmp_path / "logs" / "mine.json")
    for key in ("loss", "alpha", "grad_norm", "norm_test", "cabs", "grad_hist_1d", "update_size", "valid/accuracy"):
        np.testing.assert_allclose(back[key].values[: len(run[key].values)], run[key].values, rtol=1e-12, err_msg=key)
    assert back["grad_norm"].layers.values.tolist() == run["grad_norm"].layers.values.tolist()
    np.testing.assert_array_equal(back["grad_hist_1d"].edges, run["grad_hist_1d"].edges)
    passed = [np.diff(r["time"].values) for r in (back, run)]
    np.testing.assert_allclose(*passed, atol=1e-5, err_msg="seconds since 1970 in a double")


def test_names_and_forms_are_those_of_the_other_package(tmp_path: Path) -> None:
    trained(tmp_path, instruments=["business", TICDiag("hessian")])  # an estimate would need 16 steps
    ours = json.loads((tmp_path / "logs" / "mine.json").read_text())["1"]
    theirs = raw()[1] | raw()[0]
    shared = set(ours) & set(theirs)
    measured = {name for name, key in KEYS.items() if key in {cls.name for cls in configured("business")}}
    assert {*measured, "valid_accuracy"} <= shared
    for name in shared:
        kinds = {float if isinstance(entry, int) else type(entry) for entry in (ours[name], theirs[name])}
        assert len(kinds) == 1, name
    assert ours["GradHist1d"].keys() == theirs["GradHist1d"].keys()
    assert ours["GradHist1d"]["hist"].keys() == theirs["GradHist1d"]["hist"].keys()


def test_the_other_packages_log_is_written_as_it_was_read(tmp_path: Path) -> None:
    written = write_json(read_json(PEER), tmp_path / "again")
    assert json.loads(written.read_text()) == json.loads(PEER.read_text(), object_hook=without_order)


def without_order(entry: dict[str, Any]) -> dict[str, Any]:
    """Whether an array was in C's order says nothing about its nested lists."""
    return {key: value for key, value in entry.items() if key != "Corder"}


def test_missing_values_are_left_out_and_those_that_are_not_finite_stay(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text('{"0": {"Alpha": NaN, "Loss": Infinity, "CABS": null, "NormTest": 1}}')
    output = output_of(load_json(tmp_path / "log.json"))[0]
    assert math.isnan(output["Alpha"])
    assert output["Loss"] == math.inf
    assert "CABS" not in output
    assert output["NormTest"] == 1.0


@pytest.mark.parametrize("ending", ["", ".json"])
def test_the_plotter_draws_a_log_as_it_is(tmp_path: Path, ending: str) -> None:
    source = str(PEER.with_suffix(ending))
    figure = CockpitPlotter().plot(source, show_plot=False, savedir=tmp_path, savename="screen")
    assert figure is not None
    assert (tmp_path / "screen.png").stat().st_size > 10_000


def test_every_name_has_a_key_of_an_instrument_and_a_form() -> None:
    from cockpit import quantities

    known = {name: cls.key for name, cls in vars(quantities).items() if isinstance(cls, type) and hasattr(cls, "key")}
    assert known == {**KEYS, "Parameters": "parameters"}
    assert not set(NUMBERS) & set(NORMS) & set(SUMS) & set(HISTOGRAMS)
