"""What was measured, written down: as text, as a table for other programs, as figures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeAlias

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Row: TypeAlias = "dict[str, str]"


def aligned(rows: Sequence[Sequence[str]], sides: str) -> str:
    """Rows of cells as lines of text.

    Args:
        rows: The head's first.
        sides: Where the cells of each column stand, ``<`` or ``>``; one character holds for all.
    """
    columns = list(zip(*rows, strict=True))
    sides = sides * len(columns) if len(sides) == 1 else sides
    padded = [
        [f"{cell:{side}{max(map(len, column))}}" for cell in column]
        for column, side in zip(columns, sides, strict=True)
    ]
    return "\n".join("  ".join(line).rstrip() for line in zip(*padded, strict=True))


def write_csv(path: Path, results: Sequence[Any]) -> None:
    """One line for each result, a dataclass of which there is one at least."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(results[0])])
        writer.writeheader()
        writer.writerows(asdict(each) for each in results)


def read_csv(path: Path) -> list[Row]:
    """The lines, as text by column."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def save(figure: Figure, directory: Path, name: str) -> list[Path]:
    """A figure as PNG and as PDF, which is the same file whenever the same is drawn; returns both."""
    FigureCanvasAgg(figure)
    files = [directory / f"{name}.{suffix}" for suffix in ("png", "pdf")]
    for file in files:
        figure.savefig(file, dpi=150, metadata={"CreationDate": None} if file.suffix == ".pdf" else None)
    return files
