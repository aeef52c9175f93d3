"""Text for a terminal: as wide as it is, and nothing in it that the terminal would obey."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from cockpit.drawing.words import shorten

NARROWEST = 8  # characters that a column keeps


def width() -> int | None:
    """Characters in a line; ``None`` where the output goes to a file or a pipe, which cuts nothing."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def printable(text: str) -> str:
    """Text on one line without control characters: names and messages come from anywhere."""
    return "".join(character if character.isprintable() else " " for character in text)


def table(rows: Sequence[Sequence[str]], room: int | None) -> list[str]:
    """Lines with aligned columns; the widest columns give way until a line fits.

    Args:
        rows: As many cells in each.
        room: Characters in a line; ``None`` for as many as it takes.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    while room is not None and sum(widths) + 2 * (len(widths) - 1) > room and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return [
        "  ".join(shorten(cell, wide).ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
