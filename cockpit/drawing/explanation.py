"""What a run's panels say about a quantity, gathered for one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cockpit.drawing.arrange import keys_of
from cockpit.panel import Panel


@dataclass(frozen=True)
class Words:
    """A quantity explained; what is not said is empty.

    Args:
        title: Its panel's.
        how_to_read: One sentence.
        formula: TeX, one equation a line.
        good: What it looks like when all is well.
        bad: What trouble looks like.
        source: Paper and equation.
    """

    title: str
    how_to_read: str
    formula: str
    good: str
    bad: str
    source: str


def words_of_panel(name: str, panels: Mapping[str, Panel]) -> list[Words]:
    """What is said about panel ``name``; nothing where nobody says anything but how to read it.

    A panel that has no words of its own, because it draws the keys of others, has theirs: for each key those of the
    first panel that has some and draws it.

    Args:
        name: One of ``panels``.
        panels: All of the run.
    """
    panel = panels[name]
    if _speaks(panel):
        return [_words(name, panel)]
    speakers: dict[str, Panel] = {}
    for key in keys_of(name, panel):
        for other, candidate in panels.items():
            if _speaks(candidate) and key in keys_of(other, candidate):
                speakers.setdefault(other, candidate)
                break
    return [_words(other, candidate) for other, candidate in speakers.items()]


def _speaks(panel: Panel) -> bool:
    return bool(panel.formula or panel.good or panel.bad or panel.source)


def _words(name: str, panel: Panel) -> Words:
    return Words(panel.title or name, panel.how_to_read, panel.formula, panel.good, panel.bad, panel.source)
