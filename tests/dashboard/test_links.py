"""The address of each view, across a restart of the server."""

import shutil
from typing import Any

import pytest
from dash import no_update
from synthetic import write_run
from visitor import Browser, redrawn

from cockpit.dashboard.answer import SOON
from cockpit.dashboard.sources import Sources
from cockpit.store import Store

LINKS = (
    {"view": "Now", "step": 20, "x": "relative", "smooth": 0.5, "log": {"loss_curves": True}},
    {"view": "Classic", "step": 20},
    {"view": "Layers", "step": 20, "more": {"grouping": "type", "sort": "depth"}},
    {"view": "Layers", "step": 20, "more": {"layer": "fc1.weight"}},
    {"view": "Panel", "step": 20, "more": {"panel": "alpha"}},
    {"view": "Compare", "more": {"runs": "digits|other", "key": "loss", "over": "samples"}},
    {"view": "Runs", "more": {"columns": '["config:lr"]'}},
)
UNSHARED: dict[str, Any] = dict.fromkeys(
    ("serial", "asked", "next", "listed", "idle", "drawn", "behind", "waits", "run")
)  # what an address does not tell


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link["view"])
def test_a_page_stays_as_it_is_hears_of_other_runs_and_its_address_leads_to_the_same(tmp_path, link):
    for name in ("other", "digits"):
        write_run(tmp_path / name, 40)
    browser = Browser(tmp_path)
    while browser.ask(**link)["shown"]["next"] == SOON:
        pass
    before = browser.shown | UNSHARED
    shutil.rmtree(tmp_path / "other")
    write_run(tmp_path / "third", 20, created=1.0)
    browser.sources = Sources(Store(tmp_path))
    found = browser.ask(**link)
    assert (redrawn(found), found["view"]) == ([], no_update)
    assert {option["value"] for option in found["runs"]} == {"digits", "third"}
    assert browser.shown | UNSHARED == before
    assert Browser(tmp_path).ask(**link)["shown"] | UNSHARED == before
