"""What a report says about its run beside the panels: in a few words on top, in full below."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

from cockpit.comparing.comparison import settings_of
from cockpit.dashboard.marks import FREQUENT
from cockpit.dashboard.markup import Element, element, table
from cockpit.dashboard.page import Page
from cockpit.dashboard.source import Source
from cockpit.dashboard.status import OVERHEAD
from cockpit.dashboard.theme import shorten
from cockpit.drawing.explanation import words_of_panel
from cockpit.store import Annotations, Event

MOST_ROWS = 200  # of a table
LONGEST = 400  # characters of a value
LONGEST_NOTES = 100_000
SECTIONS = {
    "config": "Configuration", "optimizer": "Optimizer", "environment": "Environment", "model": "Model",
    "instruments": "Instruments",
}  # fmt: skip


def headline(page: Page, said: Annotations) -> list[Element]:
    """State and the facts that do not depend on the step."""
    source = page.source
    began = datetime.fromtimestamp(source.header.created, timezone.utc)
    facts = {"began": f"{began:%Y-%m-%d %H:%M} UTC", "ran for": duration(source.timeline("relative").length)}
    share = source.scalar_at(OVERHEAD, None)
    if share is not None and math.isfinite(share):
        facts["overhead"] = f"{share:+.0%}".replace("%", " %")
    covered = source.document("coverage")
    if isinstance(covered, dict) and isinstance(covered.get("share"), (int, float)):
        facts["coverage"] = f"{math.floor(100 * covered['share'])} % of parameters"
    if source.states:
        facts["shown"] = _processes(source)
    if said.tags:
        facts["tags"] = shorten(", ".join(said.tags), LONGEST)
    return [*(fact(name, value) for name, value in facts.items()), *_alerts(source.events)]


def _processes(source: Source) -> str:
    """Whose readings these are, and how the others ended where they did not end alike."""
    counts = Counter(source.states.values())
    said = f"rank {source.reader.number} of {len(source.states)}"
    return f"{said}: {', '.join(f'{count} {state}' for state, count in counts.items())}" if len(counts) > 1 else said


def fact(name: str, value: str, **attributes: str) -> Element:
    """One fact; its value may be changed under the ``id`` that is given."""
    return element("span", element("span", name, class_="name"), element("b", value, **attributes), class_="fact")


def _alerts(events: Sequence[Event]) -> Iterator[Element]:
    for kind in ("error", "warning"):
        count = sum(event.kind == kind for event in events)
        if count:
            words = f"{count:,} {kind}{'s' if count > 1 else ''}"
            yield element("a", words, href="#events", class_="alerts")


def duration(seconds: float) -> str:
    """A length of time with the two units that matter.

    Example:
        >>> duration(7512.0), duration(61.4), duration(0.25)
        ('2 h 05 min', '1 min 01 s', '0.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"


def details(page: Page, said: Annotations) -> list[Element]:
    """Notes, events and settings."""
    notes = [_notes(said.notes)] if said.notes else []
    return [*notes, _events(page.source.events), *_settings(page)]


def _card(title: str, *content: Element, **attributes: str) -> Element:
    return element("section", element("h3", title), *content, class_="panel below", **attributes)


def _notes(notes: str) -> Element:
    return _card("Notes", element("p", shorten(notes, LONGEST_NOTES), class_="notes"))


def _settings(page: Page) -> Iterator[Element]:
    """What the run was set to, a card for each part of it."""
    found = settings_of([page.source.header])
    for section, title in SECTIONS.items():
        rows = [(setting.name, setting.values[0] or "–") for setting in found if setting.section == section]
        if rows:
            yield _card(title, _table(rows))


def _table(rows: Sequence[Sequence[str]], headings: Sequence[str] = ()) -> Element:
    """As many rows as have room, and how many have not."""
    cells = [[shorten(cell, LONGEST) for cell in row] for row in rows[:MOST_ROWS]]
    more = len(rows) - len(cells)
    cut = [element("p", f"{more:,} more are in the log.", class_="words")] if more else []
    return element("div", table(cells, headings, class_="readings"), *cut, class_="scrolling")


def _events(events: Sequence[Event]) -> Element:
    """What happened, the latest first; evaluations stand on the axes."""
    told = [event for event in reversed(events) if event.kind not in FREQUENT]
    if not told:
        return _card("Events", element("p", "Nothing has happened.", class_="how"), id="events")
    rows = [("–" if event.step is None else f"{event.step:,}", event.kind.replace("_", " "), event.subject, event.text)
            for event in told]  # fmt: skip
    return _card("Events", _table(rows, ("step", "what", "about", "in words")), id="events")


def explained(pages: Sequence[Page]) -> list[Element]:
    """What good and bad look like in each panel that says so."""
    panels = pages[0].source.header.panels
    names = dict.fromkeys(name for page in pages for name in page.arrangement.names)
    entries = []
    for words in dict.fromkeys(words for name in names for words in words_of_panel(name, panels)):
        said = {"How to read it": words.how_to_read, "Good": words.good, "Bad": words.bad, "Source": words.source}
        pairs = [(element("dt", term), element("dd", text)) for term, text in said.items() if text]
        parts = [part for pair in pairs for part in pair]
        entries.append(element("div", element("h4", words.title), element("dl", *parts), class_="entry"))
    return [_card("How to read the panels", element("div", *entries, class_="columns"))] if entries else []
