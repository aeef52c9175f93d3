"""Colours, sizes and text of the static screen, in inches and points, whatever the user's matplotlib settings are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from matplotlib import style
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from cockpit.drawing.words import shorten

FONT = "DejaVu Sans"  # comes with matplotlib
TITLE, BODY, SMALL = 9.5, 8.0, 7.0  # points
SLACK = 1.04  # renderers place letters on pixels: a line gets a little longer than it measures

# Each stands out from white and from the others without colour, too: by lightness, dash or shape.
PAPER, INK, MUTED, GRID = "#ffffff", "#1c2430", "#5a6675", "#dfe4ea"
RUN, RUN_FILL = "#0060a8", (0.0, 0.376, 0.659, 0.20)
MARK, ALARM = "#b34700", "#b00038"
TINTS = ("#e3ecf6", "#f8ebdf", "#e3f0e6")  # columns
GREY = "#e4e4e4"  # what everybody tracks
DENSITY = "Blues"  # light where there is nothing, evenly darker


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within, matplotlib has its default settings, the user's come back afterwards."""
    settings: dict[str, Any] = {
        "font.family": [FONT],
        "axes.unicode_minus": True,
        "pdf.fonttype": 42,  # text stays text
        "svg.fonttype": "none",
    }
    with style.context(["default", settings]):
        yield


def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Width of a line of text in inches."""
    font = FontProperties(family=FONT, size=size, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return SLACK * float(width) / 72


def fitted(text: str, inches: float, size: float, weight: str = "normal") -> str:
    """``text`` as one line that is at most ``inches`` wide: its middle is left out where it is longer."""
    text = legible(text)
    if width_of(text, size, weight) <= inches:
        return text
    low, high = 0, len(text)  # the first length fits, the last does not
    while high - low > 1:
        middle = (low + high) // 2
        fits = width_of(shorten(text, middle), size, weight) <= inches
        low, high = (middle, high) if fits else (low, middle)
    return shorten(text, low) if low else ""


def legible(text: str) -> str:
    """``text`` in one line of characters that the font has; the others become boxes, as in a browser."""
    has = _characters()
    return "".join("□" if ord(c) not in has else c if c.isprintable() else " " for c in text)


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=FONT))).get_charmap())
