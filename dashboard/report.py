"""A run as one page of HTML that needs nothing else: no network, no server, no Cockpit."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import IO

import orjson
from plotly.offline import get_plotlyjs

from cockpit.dashboard.frames import Frames, frames_of
from cockpit.dashboard.layout import graph_config, grid_cells, grid_class, panel_class
from cockpit.dashboard.markup import Element, document, element
from cockpit.dashboard.page import ALL_PANELS, Choice, Page, page_of
from cockpit.dashboard.report_facts import details, explained, fact, headline
from cockpit.dashboard.source import Source
from cockpit.dashboard.theme import DARK, LIGHT
from cockpit.panel import Place
from cockpit.store import Reader

MOST_STEPS = 65  # on the slider: both ends, and six times the middles of what is between
MOST_BYTES = 8_000_000  # of the drawings
ASSETS = Path(__file__).parent / "assets"
STYLES = ("cockpit.css", "report.css")
SCRIPTS = ("cursor.js", "pictures.js", "report.js")


def write_report(
    reader: Reader, file: str | Path | IO[bytes], *, most_steps: int = MOST_STEPS, most_bytes: int = MOST_BYTES
) -> None:
    """Write the report of a run: its screens at many of its steps, its settings, notes and events.

    Opened in a browser it loads nothing and sends nothing. What a log holds is text in it, never HTML or a script.

    Args:
        reader: The run's log.
        file: Where to write.
        most_steps: On the slider; at least 1. Fewer where they would take more room than there is.
        most_bytes: For the drawings. To these come Plotly's script, about 5 MB, and up to 2 MB of settings and events.
    """
    source = Source(reader)
    pages = _views(source, reader.name)
    frames = frames_of(pages, most_steps, most_bytes)
    scripts = [get_plotlyjs(), *((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)]
    page = element("html", _head(reader.name, scripts), _body(reader, pages, frames, scripts), lang="en")
    data = document(page).encode()
    if isinstance(file, (str, Path)):
        Path(file).write_bytes(data)
    else:
        file.write(data)


def _views(source: Source, name: str) -> list[Page]:
    """The run's screens; of a run that brings none, one page with all panels."""
    views = [screen.name for screen in source.header.screens] or [ALL_PANELS]
    return [page_of(source, Choice(view=view, scheme="names"), name) for view in views]


def _head(title: str, scripts: Sequence[str]) -> Element:
    style = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in STYLES)
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{title} · Cockpit"),
        element("style", style),
    )


def _policy(scripts: Sequence[str]) -> str:
    """The page runs these scripts and no others, and asks nobody for anything."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def _body(reader: Reader, pages: Sequence[Page], frames: Frames, scripts: Sequence[str]) -> Element:
    said = reader.annotations()
    views = [_view(page, frames) for page in pages]
    return element(
        "body",
        element("header", _brand(reader), element("div", *_facts(pages[0]), *headline(pages[0], said), class_="status"),
                class_="strip"),
        element("nav", *_replay(pages), class_="replay", aria_label="Replay"),
        element("main", *views),
        element("div", *details(pages[0], said), class_="facts-below"),
        element("div", *explained(pages), class_="explained-below"),
        element("footer", _about(frames), class_="about"),
        element("script", _data(pages[0], frames), type="application/json", id="report-data"),
        *(element("script", script) for script in scripts),
        class_="report",
    )  # fmt: skip


def _brand(reader: Reader) -> Element:
    state = reader.state()
    return element("div", element("h1", reader.name), element("span", state, class_=f"state {state}"), class_="brand")


def _facts(page: Page) -> list[Element]:
    """The facts that follow the slider, and where the run ended."""
    return [fact("last step", f"{page.span[1]:,}"), fact("loss", "–", id="loss")]


def _replay(pages: Sequence[Page]) -> list[Element]:
    tabs = [element("button", page.view, type="button", class_="tab") for page in pages]
    return [
        element("div", *tabs, class_="tabs", role="group", aria_label="View"),
        element("button", "Play", type="button", id="play", class_="play"),
        element("input", type="range", id="slider", class_="slider", min="0", step="1", aria_label="Step"),
        element("output", "", id="step", class_="step"),
        element("button", "◐", type="button", id="scheme", aria_label="Dark or light", title="Dark or light"),
    ]


def _view(page: Page, frames: Frames) -> Element:
    arrangement = page.arrangement
    parts: list[Element] = []
    if arrangement.places:
        placed = [_card(page, frames, place.panel, place) for place in arrangement.places]
        style = f"--columns: {arrangement.columns}"
        parts.append(element("div", *placed, class_=grid_class(arrangement), style=style))
    if arrangement.rest:
        heading = [element("h2", "More from this run", class_="more")] if parts else []
        rest = [_card(page, frames, name) for name in arrangement.rest]
        parts += [*heading, element("div", *rest, class_="screen flowing")]
    if not parts:
        parts.append(element("p", "This run declares no panels, so there is nothing to draw.", class_="message"))
    return element("div", *parts, class_="view", data_view=page.view)


def _card(page: Page, frames: Frames, name: str, place: Place | None = None) -> Element:
    """A panel without its drawing, which ``assets/report.js`` puts there."""
    panel = page.panel(name)
    title = panel.title or name
    heading = element("div", element("h3", title), element("p", panel.how_to_read, class_="how"), class_="heading")
    return element(
        "section",
        heading,
        element("p", class_="notice"),
        element("div", element("div", class_="graph"), element("p", class_="empty"), class_="plot"),
        element("p", class_="words"),
        class_=panel_class(panel.kind),
        style="; ".join(f"{name}: {value}" for name, value in (grid_cells(place) if place else {}).items()),
        aria_label=title,
        data_panel=str(frames.names.index(name)),
    )


def _about(frames: Frames) -> Element:
    """What the report leaves out, in words."""
    said = [f"Written by Cockpit {version('cockpit-debugger')}. The page needs no network and sends nothing anywhere."]
    if len(frames.all) < frames.logged:
        said.append(f"The slider has {len(frames.all):,} of the {frames.logged:,} steps that were read.")
    said.append("Long curves are thinned so that no extreme and no gap is lost; the log has every point.")
    if frames.left_out:
        said.append(f"Without room here: {', '.join(frames.left_out)}.")
    return element("p", " ".join(said))


def _data(page: Page, frames: Frames) -> str:
    """What the script draws from, as JSON that cannot end the element that it stands in."""
    rest = {
        "names": frames.names,
        "frames": frames.all,
        "configs": [graph_config(page.run, name) for name in frames.names],
        "palettes": {"light": asdict(LIGHT), "dark": asdict(DARK)},
    }
    entries = b",".join(frames.pool.entries)
    text = (b'{"pool":[' + entries + b"]," + orjson.dumps(rest)[1:]).decode()
    return text.replace("<", "\\u003c")
