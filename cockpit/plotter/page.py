"""The page: title, columns, a card for each panel, rows as high as what stands in them needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from cockpit.drawing.arrange import Arrangement
from cockpit.panel import Place
from cockpit.plotter import gauge, histogram, histogram2d, lines, parabola
from cockpit.plotter.room import Room
from cockpit.plotter.scene import Scene
from cockpit.plotter.theme import BODY, GREY, INK, MUTED, PAPER, TINTS, TITLE

COLUMN, GAP, EDGE = 4.9, 0.2, 0.25  # inches: width of a column, between columns and rows, around the page
HEADER, BAND = 0.72, 0.3  # heights of the page's title and of the columns' names
CARD_TITLE, PAD = 0.3, 0.12
LOWEST_ROW = 2.1
REST_COLUMNS = 3  # of a page without a screen
EVERYDAY = "bottom"  # the group of what everybody tracks
REST = "More"


@dataclass(frozen=True)
class Kind:
    """How panels of one kind are drawn: into how much room at least, in inches, and by which function."""

    height_of: Callable[[Scene], float]
    draw: Callable[[Scene, Room], None]


KINDS: Mapping[str, Kind] = {
    "lines": Kind(lines.height_of, lines.draw_lines),
    "histogram": Kind(histogram.height_of, histogram.draw_histogram),
    "histogram2d": Kind(histogram2d.height_of, histogram2d.draw_histogram2d),
    "gauge": Kind(gauge.height_of, gauge.draw_gauge),
    "parabola": Kind(parabola.height_of, parabola.draw_parabola),
}


@dataclass(frozen=True)
class Page:
    """What stands where.

    Args:
        scenes: What the panels show, by name.
        last_step: The last step of them all.
        places: Cells of all panels.
        columns: Number of columns, at least 1.
        headings: Names of the columns; none on a page without a screen.
        rest: The first row below the screen; the number of rows where there is nothing below.
        heights: Of the rows, in inches.
    """

    scenes: Mapping[str, Scene]
    last_step: int
    places: tuple[Place, ...]
    columns: int
    headings: tuple[str, ...]
    rest: int
    heights: tuple[float, ...]

    @classmethod
    def of(cls, arrangement: Arrangement, scenes: Mapping[str, Scene], last_step: int) -> Page:
        """The screen's places as they are, all other panels in rows below; the last of them fills its row."""
        columns = arrangement.columns or min(REST_COLUMNS, max(1, len(arrangement.rest)))
        rest = max((place.row + place.height for place in arrangement.places), default=0)
        places = list(arrangement.places)
        for index, name in enumerate(arrangement.rest):
            row, column = divmod(index, columns)
            width = columns - column if index == len(arrangement.rest) - 1 else 1
            places.append(Place(name, column, rest + row, width))
        needed = {place.panel: _needed(scenes[place.panel]) for place in places}
        heights = _heights(places, needed)
        return cls(scenes, last_step, tuple(places), columns, arrangement.headings, rest, heights)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the page in inches."""
        wide = 2 * EDGE + self.columns * (COLUMN + GAP) - GAP
        return wide, EDGE + self._above(len(self.heights)) - (GAP if self.heights else 0.0)

    def _above(self, row: int) -> float:
        """From the page's top to the top of ``row``."""
        bands = (bool(self.headings) + (0 < self.rest < len(self.heights) and row >= self.rest)) * BAND
        return HEADER + bands + sum(self.heights[:row]) + row * GAP

    def room(self, sheet: Room, column: int, row: int, width: int, height: int) -> Room:
        """The cells from there on, without the gaps around them."""
        below = self._above(row) + sum(self.heights[row : row + height]) + (height - 1) * GAP
        left = EDGE + column * (COLUMN + GAP)
        return sheet.part(left, sheet.height - below, width * (COLUMN + GAP) - GAP, below - self._above(row))


def _needed(scene: Scene) -> float:
    kind = KINDS.get(scene.panel.kind)
    return CARD_TITLE + 2 * PAD + (kind.height_of(scene) if kind else 0.0)


def _heights(places: Sequence[Place], needed: Mapping[str, float]) -> tuple[float, ...]:
    """Heights of the rows in which every panel has what it needs."""
    heights = [LOWEST_ROW] * max((place.row + place.height for place in places), default=0)
    for place in sorted(places, key=lambda place: place.height):  # what spans several rows may fit by then
        rows = range(place.row, place.row + place.height)
        lack = needed[place.panel] - sum(heights[row] for row in rows) - (place.height - 1) * GAP
        for row in rows if lack > 0 else ():
            heights[row] += lack / place.height
    return tuple(heights)


def draw_page(figure: Figure, page: Page, title: str, subtitle: str) -> None:
    """Everything, onto an empty figure of the page's size."""
    wide, high = page.size
    sheet = Room(figure, (wide, high), 0, 0, wide, high)
    head = sheet.part(EDGE, high - HEADER, wide - 2 * EDGE, HEADER)
    head.write(title, y=0.36, size=14, weight="bold")
    head.write(subtitle, y=0.15, size=BODY, colour=MUTED)
    if not page.places:
        head.write("Nothing was logged yet.", y=-0.05, colour=MUTED)
    _paint(sheet, page)
    for place in page.places:
        _card(page.room(sheet, place.column, place.row, place.width, place.height), page.scenes[place.panel])


def _paint(sheet: Room, page: Page) -> None:
    """Backgrounds: a tint for each column with its name, grey for what everybody tracks and for the rest."""
    everyday = [place for place in page.places if place.row < page.rest and _is_everyday(page.scenes[place.panel])]
    half = GAP / 2
    for column, name in enumerate(page.headings):
        rows = [place.row for place in everyday if place.column <= column < place.column + place.width]
        height = min(rows, default=page.rest)
        if height:
            room = page.room(sheet, column, 0, 1, height)
            room.inset(-half, -half, -half, -half - BAND).paint(TINTS[column % len(TINTS)])
            room.write(name, x=room.width / 2, y=room.height + 0.1, size=11, weight="bold", align="center")
    for place in everyday:
        page.room(sheet, place.column, place.row, place.width, place.height).inset(*[-half] * 4).paint(GREY)
    below = len(page.heights) - page.rest
    if below:
        room = page.room(sheet, 0, page.rest, page.columns, below)
        band = BAND if page.rest else 0.0
        room.inset(-half, -half, -half, -half - band).paint(GREY)
        if band:
            room.write(REST, x=room.width / 2, y=room.height + 0.1, size=11, weight="bold", align="center")


def _is_everyday(scene: Scene) -> bool:
    return scene.panel.group == EVERYDAY


def _card(room: Room, scene: Scene) -> None:
    room.paint(PAPER)
    inner = room.inset(PAD, PAD / 2, PAD, PAD)
    inner.write(scene.panel.title, y=inner.height - 0.17, size=TITLE, weight="bold", colour=INK)
    body = inner.inset(top=CARD_TITLE)
    kind = KINDS.get(scene.panel.kind)
    if kind is None:
        words = f"This version of Cockpit cannot draw panels of kind “{scene.panel.kind}”."
        body.write(words, y=body.height / 2, colour=MUTED)
    else:
        kind.draw(scene, body)
