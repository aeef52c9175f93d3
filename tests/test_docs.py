import argparse
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from cockpit import Cockpit, instrument
from cockpit.commands.options import parser

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "images"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])


def headings(page):
    return {re.sub(r"[`*]", "", line.lstrip("#").strip()) for line in page.read_text().splitlines() if line[:1] == "#"}


def commands():
    (group,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return group.choices


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_is_documented(name):
    text = (ROOT / "docs" / "command-line.md").read_text()
    sections = dict(zip(*[iter(re.split(r"^## (.*)$", text, flags=re.M)[1:])] * 2, strict=True))
    options = [action.option_strings[0] for action in commands()[name]._actions if action.option_strings]
    assert [option for option in options if option not in sections[f"cockpit {name}"] and option != "-h"] == []


def test_every_instrument_is_documented():
    assert set(instrument.registered()) - headings(ROOT / "docs" / "instruments.md") == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target in (*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r'\bsrc(?:set)?="([^"]+)"', text)):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), target
        if anchor:
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings(place)}, target


def test_every_view_has_a_picture_of_one_size_in_both_colour_schemes_and_all_are_shown():
    shown = "".join(page.read_text() for page in PAGES)
    views = ("now", "classic", "layers", "layer", "compare", "replay", "runs", "panel")
    for picture in (f"{view}-{scheme}.png" for view in views for scheme in ("light", "dark")):
        assert f"images/{picture}" in shown, picture
        height, width, _ = plt.imread(PICTURES / picture).shape
        assert (width, height) == (1440, 900), picture


def test_no_picture_is_left_over_and_together_they_are_small():
    pictures = sorted(PICTURES.glob("*.png"))
    shown = "".join(page.read_text() for page in PAGES)
    assert [picture.name for picture in pictures if f"images/{picture.name}" not in shown] == []
    assert sum(picture.stat().st_size for picture in pictures) < 4e6


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{name}.md" for name in ("getting-started", "api", "own-instruments", "optimizers"))]
)
def test_the_python_code_of_a_page_runs_as_it_stands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    own = instrument.registered()  # what a page registers is registered here only
    monkeypatch.setattr(instrument, "_REGISTRY", own)
    for indent, code in re.findall(r"^( *)```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S | re.M):
        model = torch.nn.Linear(4, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with Cockpit(model, optimizer) as cockpit:
            scope = {
                **{"model": model, "optimizer": optimizer, "cockpit": cockpit, "loss_fn": torch.nn.CrossEntropyLoss()},
                **{"x": torch.randn(8, 4), "y": torch.randn(8, 3), "accuracy": 0.5},
                "loader": [(torch.randn(8, 4), torch.randint(3, (8,))) for _ in range(120)],
            }
            exec(textwrap.dedent(indent + code), scope)
            scope["cockpit"].close()


def test_the_readme_has_one_command_for_the_demo_and_one_for_the_tests():
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len([line for line in lines if line.endswith("&& cockpit demo")]) == 1
    assert len([line for line in lines if line.endswith("&& python -m pytest -n auto --dist loadfile")]) == 1


def test_every_change_log_section_is_one_of_keep_a_changelog():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[Unreleased\]$", text, flags=re.M)
    assert set(re.findall(r"^### (.*)$", text, flags=re.M)) <= {
        *("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"),
    }
