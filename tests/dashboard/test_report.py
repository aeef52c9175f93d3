"""The report as a file: what it holds, what it leaves out, how large it is."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from drawn import plain_array
from patience import LONG
from synthetic import write_run

from cockpit.dashboard.frames import Pool, coarse_to_fine
from cockpit.dashboard.report import write_report
from cockpit.panel import Panel
from cockpit.reading import Histogram, Reading
from cockpit.run import load_run
from cockpit.screens import PANELS, SCREENS
from cockpit.store import Header, Reader, Store, Writer

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)><!-- ]]> &amp; \ue000ink\ue001"


class Page(HTMLParser):
    """A report taken apart as a browser would."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.scripts, self.attributes = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]

    def handle_data(self, data):
        (self.scripts if self.tags[-1:] == ["script"] else self.texts).append(data)

    @property
    def data(self):
        return json.loads(self.scripts[0])

    @property
    def text(self):
        return " ".join(self.texts)


def report_of(reader, tmp_path, **limits):
    write_report(reader, tmp_path / "report.html", **limits)
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "digits", 200)
    Store(folder).annotate("digits", notes="a <b>note</b>", tags=("first", "good"))
    return folder / "digits"


@pytest.fixture(scope="module")
def page(digits, tmp_path_factory):
    return report_of(Reader(digits), tmp_path_factory.mktemp("report"), most_steps=5)


def whole(data, value):
    """A value of the report's as the drawing functions made it."""
    if isinstance(value, list):
        return [whole(data, part) for part in value]
    if not isinstance(value, dict):
        return value
    return whole(data, data["pool"][value["$"]]) if "$" in value else {k: whole(data, v) for k, v in value.items()}


def panel_at(page, name, place):
    data = page.data
    return whole(data, data["frames"][place]["panels"][data["names"].index(name)])


def test_the_steps_are_spread_over_the_run(page):
    assert [frame["step"] for frame in page.data["frames"]] == [0, 41, 91, 141, 191]


def test_every_panel_of_every_screen_is_there(page):
    cards = [value for tag, name, value in page.attributes if tag == "section" and name == "data-panel"]
    found = {page.data["names"][int(card)] for card in cards}
    assert found >= {"loss_curves", "layer_gradients", "grad_hist_1d", "alpha"}


def test_histograms_move_with_the_steps(page, digits):
    column = Reader(digits).column("grad_hist_1d")
    for place, frame in enumerate(page.data["frames"]):
        bars = panel_at(page, "grad_hist_1d", place)["figure"]["data"][0]
        row = np.searchsorted(column.steps, frame["step"], side="right") - 1
        np.testing.assert_array_equal(plain_array(bars["y"]), column.values[row])


def test_curves_are_kept_once_however_many_steps_there_are(page):
    curve = page.data["frames"][0]["panels"][page.data["names"].index("grad_norm")]
    assert "$" in curve
    first, last = (panel_at(page, "grad_norm", place)["figure"]["data"][0]["y"] for place in (0, -1))
    assert first == last


def test_the_page_allows_its_own_scripts_alone(page):
    ((policy,),) = ([value for tag, name, value in page.attributes if name == "content" and "script-src" in value],)
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src 'none'" in policy
    hashes = re.findall(r"'sha256-([^']+)'", policy)
    assert hashes == [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in page.scripts[1:]]
    assert not [value for _, name, value in page.attributes if name in ("src", "srcset", "action")]
    assert {value for tag, name, value in page.attributes if name == "href"} <= {"#events"}


def test_settings_notes_tags_and_events_are_told(page):
    for words in (
        "a <b>note</b>",
        "first, good",
        "lr",
        "learning rate 0.1 → 0.01",
        "a batch of one sample has no test",
    ):
        assert words in page.text
    assert "logged valid/accuracy" not in page.text


def test_the_page_says_how_many_steps_it_left_out(page):
    assert "The slider has 5 of the 40 steps that were read." in page.text


def test_no_stored_text_is_markup(tmp_path):
    panels = {HOSTILE: Panel(HOSTILE, "lines", HOSTILE, ylabel=HOSTILE, good=HOSTILE), **PANELS}
    header = Header(
        HOSTILE, 0.0, {HOSTILE: HOSTILE}, (HOSTILE,), panels, SCREENS, {HOSTILE: {"interval": HOSTILE}},
        {"class": HOSTILE, "parameters": [{"name": HOSTILE, "shape": [2]}]}, [{"class": HOSTILE}], {"command": HOSTILE},
    )  # fmt: skip
    writer = Writer(tmp_path / "run", header)
    for step in range(3):
        writer.put(step, 0.1, {HOSTILE: Reading(1.0, {HOSTILE: Histogram(np.arange(2), np.arange(3.0))})})
    writer.event(1, 0.1, "error", HOSTILE, HOSTILE)
    writer.close()
    Store(tmp_path).annotate("run", notes=HOSTILE)
    page = report_of(Reader(tmp_path / "run"), tmp_path)
    assert page.tags.count("script") == len(page.scripts) == 5
    assert {"img", "b", "a"} & set(page.tags) <= {"a", "b"}
    assert "alert(2)" in page.text
    assert page.data["names"][0]


def test_the_file_stays_within_its_bound(tmp_path):
    """Whatever makes drawings large: many metrics, many layers, histograms of many bins."""
    panels = {**PANELS, "wide": Panel("Wide", "histogram", "h")}
    writer = Writer(tmp_path / "run", Header("run", 0.0, panels=panels, screens=SCREENS))
    layers = {f"block{index}.weight": Histogram(np.arange(80), np.arange(81.0)) for index in range(60)}
    for step in range(40):
        writer.put(step, 0.1, {"grad_log_hist": Reading(None, layers), "loss": Reading(1.0 / (step + 1))})
        writer.put(step, 0.1, {"wide": Reading(Histogram(np.arange(9000) + step, np.arange(9001.0)))})
        writer.scalars(step, 0.1, {f"metric{index}": float(step) for index in range(150)})
    writer.close()
    steps = []
    for most in (600_000, 1_000_000):
        page = report_of(Reader(tmp_path / "run"), tmp_path, most_bytes=most)
        assert len(page.scripts[0]) < most + 100_000
        steps.append(len(page.data["frames"]))
    assert 1 <= steps[0] < steps[1] <= 40
    small = report_of(Reader(tmp_path / "run"), tmp_path, most_bytes=1000)
    assert "Without room here: " in small.text
    assert panel_at(small, "wide", 0)["empty"].startswith("This panel is left out")


@pytest.mark.parametrize("screens", [(), SCREENS])
def test_a_run_without_points_has_a_report(tmp_path, screens):
    Writer(tmp_path / "run", Header("run", 0.0, panels=PANELS, screens=screens)).close()
    page = report_of(Reader(tmp_path / "run"), tmp_path)
    assert [frame["step"] for frame in page.data["frames"]] == [0]


def test_the_command_writes_a_report_without_torch(tmp_path):
    write_run(tmp_path / "digits", 20)
    target = tmp_path / "report.html"
    command = ["report", str(tmp_path / "digits"), "-o", str(target)]
    code = f"import sys; from cockpit.cli import main; main({command!r}); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=LONG)
    assert done.returncode == 0
    assert done.stdout == f"{target}: {target.stat().st_size / 1e6:.1f} MB, opens in any browser\n"
    load_run(tmp_path / "digits").report(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == target.read_bytes()


def test_places_come_from_coarse_to_fine():
    for count in range(9):
        assert sorted(coarse_to_fine(count)) == list(range(count))


def test_a_pool_keeps_equal_parts_once_and_forgets():
    pool, value = Pool(), {"a": ["x" * 50, "y" * 50], "b": ["x" * 50, "y" * 50], "c": 1}
    reference = pool.put(value)
    kept, size = len(pool.entries), pool.size
    assert pool.put(value) == reference
    assert (len(pool.entries), pool.size) == (kept, size) == (3, sum(map(len, pool.entries)))
    pool.put(["z" * 100])
    pool.forget(kept)
    assert (len(pool.entries), pool.size) == (kept, size)
    assert pool.put(value) == reference
