"""Which panels on the page are out of date, and what is sent for those that are drawn anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dash import no_update

from cockpit.dashboard.changes import changes, digest, form_of
from cockpit.dashboard.layout import plot_style
from cockpit.dashboard.page import Page

PARTS = {"figure": "figure", "empty": "children", "words": "children", "notice": "children", "plot": "style"}
"""A card's parts that change, and which of their properties does."""


@dataclass(frozen=True)
class Drawn:
    """A panel as it stands on the page.

    Args:
        growth: How far the run had grown.
        manner: At which step and how it was to be drawn.
        form: Of its figure, see :func:`~cockpit.dashboard.changes.form_of`.
        content: Tells it from what else it might show.
    """

    growth: list[Any]
    manner: list[Any]
    form: str
    content: str

    @classmethod
    def now(cls, page: Page, name: str) -> Drawn:
        """As it would be drawn now."""
        drawing = page.drawing(name)
        content = [drawing.figure, drawing.empty, drawing.words, page.notice(name), drawing.height]
        return cls(_growth(page), _manner(page, name), form_of(drawing.figure), digest(content))

    @classmethod
    def told(cls, shown: Mapping[str, Any]) -> dict[str, Drawn]:
        """The panels on the page, as it keeps them."""
        return {name: cls(*entries) for name, entries in shown.get("drawn", {}).items()}


def _growth(page: Page) -> list[Any]:
    return [page.source.cursor, page.source.state]


def _manner(page: Page, name: str) -> list[Any]:
    choice = page.choice
    zoom = choice.zoom.get(name)
    manner = choice.manner
    return [page.step, choice.scheme, page.log(name), zoom and list(zoom), manner.measure, manner.smooth, manner.zone]


def behind(page: Page, names: Collection[str], drawn: Mapping[str, Drawn]) -> list[str]:
    """Those of the panels that are not as they would be drawn now."""
    return [
        name
        for name in names
        if name not in drawn or (drawn[name].growth, drawn[name].manner) != (_growth(page), _manner(page, name))
    ]


def waiting(page: Page, names: Collection[str], drawn: Mapping[str, Drawn]) -> list[str]:
    """Those of the panels that are to be drawn although nobody sees them, as soon as there is time.

    What a live run gains is drawn only where it is seen.
    """
    over = page.source.state != "running"
    late = behind(page, names, drawn)
    return [name for name in late if over or name not in drawn or drawn[name].manner != _manner(page, name)]


def redraw(
    page: Page, wanted: Collection[str], drawn: Mapping[str, Drawn], on_page: Sequence[str]
) -> tuple[list[list[Any]], dict[str, Drawn]]:
    """What is sent of the panels that are wanted, as far as they have cards; and which are drawn then.

    Returns:
        For each of :data:`PARTS` the values of the panels on the page; and all panels that are drawn.
    """
    columns, now = untouched(on_page), dict(drawn)
    for position, name in enumerate(on_page):
        if name not in wanted:
            continue
        before, now[name] = now.get(name), Drawn.now(page, name)
        if before is not None and before.content == now[name].content:
            continue
        drawing = page.drawing(name)
        figure = changes(drawing.figure, before.form if before else None)
        values = (figure, drawing.empty, drawing.words, page.notice(name), plot_style(drawing.height))
        for column, value in zip(columns, values, strict=True):
            column[position] = value
    return columns, now


def untouched(on_page: Sequence[str]) -> list[list[Any]]:
    """Nothing for any panel on the page."""
    return [[no_update] * len(on_page) for _ in PARTS]
