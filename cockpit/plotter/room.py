"""A rectangle of a page that one drawing has for itself, measured in inches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from cockpit.plotter.theme import GRID, INK, MUTED, SMALL, fitted

LINE = 0.145  # height of a line of small text


@dataclass(frozen=True)
class Room:
    """Where something is drawn.

    Args:
        figure: The page.
        page: Its width and height.
        left: Left edge, from the page's left.
        bottom: Lower edge, from the page's bottom.
        width: Width.
        height: Height.
    """

    figure: Figure
    page: tuple[float, float]
    left: float
    bottom: float
    width: float
    height: float

    def inset(self, left: float = 0.0, bottom: float = 0.0, right: float = 0.0, top: float = 0.0) -> Room:
        """What is left without these margins."""
        return replace(
            self,
            left=self.left + left,
            bottom=self.bottom + bottom,
            width=self.width - left - right,
            height=self.height - bottom - top,
        )

    def part(self, left: float, bottom: float, width: float, height: float) -> Room:
        """A rectangle within, from this one's lower left corner."""
        return replace(self, left=self.left + left, bottom=self.bottom + bottom, width=width, height=height)

    def axes(self) -> Axes:
        """Axes that fill it, quiet ones."""
        wide, high = self.page
        place = (self.left / wide, self.bottom / high, self.width / wide, self.height / high)
        axes = self.figure.add_axes(place)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        axes.tick_params(labelsize=SMALL, labelcolor=MUTED, color=MUTED, length=2.5, width=0.6, pad=2)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        return axes

    def paint(self, colour: str) -> None:
        """A background behind everything that is drawn here later."""
        wide, high = self.page
        corner = (self.left / wide, self.bottom / high)
        area = Rectangle(corner, self.width / wide, self.height / high, facecolor=colour, edgecolor="none")
        self.figure.add_artist(area).set_zorder(-1)

    def write(
        self, text: str, *, x: float = 0.0, y: float = 0.0, size: float = SMALL, weight: str = "normal",
        colour: str = INK, align: str = "left", width: float | None = None,
    ) -> Text:  # fmt: skip
        """One line of text as it is, without markup, at most as wide as the room or ``width``.

        Args:
            text: What to write.
            x: Of its left end, middle or right end, as ``align`` says, from the room's left.
            y: Of its bottom, from the room's.
            size: In points.
            weight: ``normal`` or ``bold``.
            colour: Of the letters.
            align: ``left``, ``center`` or ``right``.
            width: The most it may take.
        """
        wide, high = self.page
        line = fitted(text, self.width if width is None else width, size, weight)
        place: dict[str, Any] = {"ha": align, "va": "baseline", "parse_math": False}
        return self.figure.text(
            (self.left + x) / wide, (self.bottom + y) / high, line, size=size, weight=weight, color=colour, **place
        )

    def captioned(self, lines: Sequence[str]) -> Room:
        """The room above ``lines``, which are written at its foot."""
        for index, line in enumerate(reversed(lines)):
            self.write(line, y=0.03 + index * LINE, colour=MUTED)
        return self.inset(bottom=len(lines) * LINE)
