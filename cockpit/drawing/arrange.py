"""Which panels stand where: a screen's places, closed up where a run lacks panels, and all others below."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from cockpit.panel import Panel, Place, Screen

REST_COLUMNS = 3
BOOKKEEPING = ("learning_rate", "batch_size", "cockpit.overhead")  # logged of every run, whatever is on


@dataclass(frozen=True)
class Arrangement:
    """Panels on a page.

    Args:
        columns: Columns of the screen's grid; 0 if it has no panels.
        places: Cells of the screen's panels, in reading order.
        rest: Panels below the screen, in order.
        headings: Names of the columns; none if the screen has none.
    """

    columns: int
    places: tuple[Place, ...]
    rest: tuple[str, ...]
    headings: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All panels in reading order."""
        return (*(place.panel for place in self.places), *self.rest)


def keys_of(name: str, panel: Panel) -> tuple[str, ...]:
    """The log keys of the panel called ``name``."""
    return panel.keys or (name,)


def expected(
    panels: Mapping[str, Panel],
    instruments: Collection[str],
    logged: Collection[str],
    users: Collection[str] = (),
    defined: Collection[str] = (),
) -> dict[str, Panel]:
    """Those panels that have points, or whose instrument is on and will bring them.

    Args:
        panels: All that the run declares.
        instruments: The run's instruments by name; a key ``name.part`` belongs to instrument ``name``.
        logged: Keys that have points. None yet: those that every run logs are expected.
        users: Those of the keys that are the user's metrics.
        defined: Those of the keys that have a value.
    """

    def wanted(name: str, panel: Panel) -> bool:
        keys = keys_of(name, panel)
        if panel.optional:
            return not set(keys).isdisjoint(defined)
        return bool(panel.user_metrics and users) or any(
            key in (logged or BOOKKEEPING) or key.split(".", 1)[0] in instruments for key in keys
        )

    return {name: panel for name, panel in panels.items() if wanted(name, panel)}


def arrange(screen: Screen | None, panels: Mapping[str, Panel], screens: Iterable[Screen] = ()) -> Arrangement:
    """``panels`` as ``screen`` places them; without a screen all stand in the grid below.

    A place whose panel is not among them stays out and its column closes up; the lowest panel of a column reaches down
    to the last row. A panel that no place names stands below, unless one of the run's ``screens`` has a place for it or
    draws all of its keys: there it is found. The user's metrics stand below every screen that does not place them.
    """
    own = screen.places if screen else ()
    places = _closed_up(_first_of_each_cell(own, panels))
    placed = {place.panel for place in places}
    pushed_out = {place.panel for place in own} - placed
    found = placed | {
        place.panel for other in screens if other != screen for place in other.places if place.panel in panels
    }
    drawn = {key for name in found - pushed_out for key in keys_of(name, panels[name])}

    def remains(name: str, panel: Panel) -> bool:
        if panel.user_metrics or name in pushed_out:
            return True
        return name not in found and not drawn.issuperset(keys_of(name, panel))

    rest = [name for name, panel in panels.items() if name not in placed and remains(name, panel)]
    groups = list(dict.fromkeys(panels[name].group for name in rest))
    rest.sort(key=lambda name: groups.index(panels[name].group))
    columns = max((place.column + place.width for place in places), default=0)
    return Arrangement(columns, tuple(places), tuple(rest), _headings(screen, panels))


def _first_of_each_cell(places: Iterable[Place], panels: Mapping[str, Panel]) -> list[Place]:
    """The places that have panels; of several with the same cell the first."""
    cells: dict[tuple[int, int], Place] = {}
    for place in places:
        if place.panel in panels:
            cells.setdefault((place.column, place.row), place)
    return list(cells.values())


def _headings(screen: Screen | None, panels: Mapping[str, Panel]) -> tuple[str, ...]:
    """Names of the columns that are left."""
    if screen is None:
        return ()
    used = sorted({place.column for place in screen.places if place.panel in panels})
    return tuple(screen.headings[column] for column in used if column < len(screen.headings))


def _closed_up(places: list[Place]) -> list[Place]:
    """The places without empty columns, each as high up as what stands above it allows, in reading order."""
    used = sorted({place.column for place in places})
    floor = dict.fromkeys(range(len(used)), 0)
    closed: list[Place] = []
    for place in sorted(places, key=lambda place: (place.row, place.column)):
        covered = [new for new, old in enumerate(used) if place.column <= old < place.column + place.width]
        row = max(floor[column] for column in covered)
        closed.append(replace(place, column=covered[0], width=len(covered), row=row))
        floor.update(dict.fromkeys(covered, row + place.height))
    bottom = max(floor.values(), default=0)
    return [_stretched(place, floor, bottom) for place in sorted(closed, key=lambda place: (place.row, place.column))]


def _stretched(place: Place, floor: Mapping[int, int], bottom: int) -> Place:
    """``place``, down to row ``bottom`` if nothing stands below it."""
    end = place.row + place.height
    lowest = all(floor[column] == end for column in range(place.column, place.column + place.width))
    return replace(place, height=bottom - place.row) if lowest else place
