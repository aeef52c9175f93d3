import json
import subprocess
import sys
from math import inf, nan

import numpy as np
import pytest
from patience import LONG

from cockpit.cli import main
from cockpit.commands.terminal import table
from cockpit.reading import Reading
from cockpit.store import Header, Writer


def write(place, seed, fault=None, config=None, last=1.0):
    """Noise; from step ``fault`` on the layer ``fc1`` is shifted, and the last 30 readings of the loss are ``last``."""
    random = np.random.default_rng(seed)
    writer = Writer(place, Header(place.name, 0.0, config={"lr": 0.1, **(config or {})}))
    for step in range(200):
        loss, layer, other = random.normal(size=3)
        layer += 6 * (fault is not None and step >= fault)
        loss = last if step >= 170 and last != 1.0 else loss
        writer.put(step, 0.1 * step, {"loss": Reading(loss), "dead": Reading(None, {"fc1": layer, "fc2": other})})
    writer.close()
    return str(place)


@pytest.fixture
def pair(tmp_path):
    return write(tmp_path / "healthy", 0), write(tmp_path / "faulty", 1, fault=112, config={"lr": 0.2}, last=nan)


def test_diff_tells_what_was_set_differently_and_ranks_what_parts(pair, capsys):
    assert main(["diff", *pair]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert lines[:2] == [
        ["A", "healthy", "finished", "last", "step", "199"],
        ["B", "faulty", "finished", "last", "step", "199"],
    ]
    assert ["config", "lr", "0.1", "0.2"] in lines
    ranking = lines[lines.index(["STEP", "QUANTITY", "LAYER", "TIMES", "THE", "NOISE", "BY", "CHANCE"]) + 1 :]
    assert int(ranking[0][0]) == pytest.approx(112, abs=6)
    assert ranking[0][1:3] == ["dead", "fc1"]
    assert ranking[1] == ["170", "loss", "over", "1000", "no"]


def test_diff_as_json_holds_the_same(pair, capsys):
    assert main(["diff", *pair, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["a"] == {"name": "healthy", "state": "finished"}
    assert content["settings"] == [{"section": "config", "name": "lr", "a": "0.1", "b": "0.2"}]
    first, second = content["divergences"]
    assert (first["key"], first["layer"], first["from_start"]) == ("dead", "fc1", False)
    assert second == {
        "key": "loss",
        "layer": None,
        "step": 170,
        "spread": False,
        "from_start": False,
        "noises": "Infinity",
        "chance": 0.0,
        "until": 199,
    }
    assert (content["together"], content["until"]) == (1, 199)


def test_a_run_beside_itself_is_said_to_stay_together(pair, capsys):
    assert main(["diff", pair[0], pair[0]]) == 0
    out = capsys.readouterr().out
    assert "Nothing was set differently" in out
    assert "The runs stay together: 3 quantities are not apart beyond noise up to step 199." in out


def test_the_ranking_is_cut_where_that_is_asked_for_and_says_so(pair, capsys):
    assert main(["diff", *pair, "--top", "1"]) == 0
    assert "… and 1 more; --top 0 shows all." in capsys.readouterr().out
    assert main(["diff", *pair, "--top", "0"]) == 0
    assert "more; --top" not in capsys.readouterr().out


def test_runs_without_points_are_said_to_be_incomparable(tmp_path, capsys):
    for name in ("a", "b"):
        Writer(tmp_path / name, Header(name, 0.0)).close()
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "too few readings to be compared" in capsys.readouterr().out


def test_what_a_terminal_would_obey_is_not_passed_on(tmp_path, capsys):
    a, b = (write(tmp_path / name, 0, config={"note": f"\x1b[31m{name}\nx"}) for name in ("a", "b"))
    assert main(["diff", a, b]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[31ma" in out


@pytest.mark.parametrize("paths", [("no", "no"), ("healthy", "no")])
def test_a_run_that_is_not_there_is_named(pair, tmp_path, capsys, paths):
    assert main(["diff", *(str(tmp_path / path) for path in paths)]) == 2
    assert "no holds no run" in capsys.readouterr().err


def test_diff_needs_no_torch(pair):
    code = "import sys\nfrom cockpit.cli import main\nmain(['diff', *sys.argv[1:]])\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code, *pair], capture_output=True, timeout=LONG).returncode == 0


@pytest.mark.parametrize("room", [30, 50, 80])
def test_a_table_fits_the_terminal(room):
    rows = [["section", "a name of some length", "x" * 60, "y" * 10], ["", "b", "z" * 30, "–"]]
    lines = table(rows, room)
    assert max(map(len, lines)) <= room + (room == 30) * 8  # columns stay legible
    assert max(map(len, table(rows, None))) == 7 + 21 + 60 + 10 + 6


def test_a_difference_that_is_not_finite_is_no_number_in_json(tmp_path, capsys):
    a, b = write(tmp_path / "a", 0), write(tmp_path / "b", 1, last=inf)
    assert main(["diff", a, b, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["divergences"][0]["noises"] == "Infinity"
