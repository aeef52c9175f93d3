"""What one look at the page shows: a run, a view, a step, and every panel's state there."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from cockpit.dashboard.lines import empty_figure
from cockpit.dashboard.panels import DEFAULT, draw
from cockpit.dashboard.scene import Manner, Scene
from cockpit.dashboard.source import Source
from cockpit.dashboard.sources import Sources
from cockpit.dashboard.theme import Drawing, palette
from cockpit.drawing.arrange import Arrangement, arrange, expected, keys_of
from cockpit.drawing.timeline import MEASURES
from cockpit.panel import Panel, Screen
from cockpit.store import RunSummary, UnreadableLog

ALL_PANELS = "All panels"  # the view of a run that brings no screen


@dataclass(frozen=True)
class Choice:
    """What the reader chose; ``None`` leaves it to the page.

    Args:
        run: The run's name; by default a running one, else the newest.
        view: The screen's name; by default the run's first.
        step: The selected step; by default the latest is followed.
        scheme: ``"dark"`` or ``"light"``; for a page that is coloured later, ``"names"``.
        log: Panels by name whose value axis was switched.
        zoom: Stretches of the horizontal axis that a panel is zoomed to, by its name, as the axis states them.
        manner: How curves are drawn.
        more: What else the address says, for the view to read: ``{"panel": "loss"}``.
        seen: Panels on the screen; ``None``: all are taken for such.
        serial: The page's number for it, which the answer bears.
    """

    run: str | None = None
    view: str | None = None
    step: int | None = None
    scheme: str = "light"
    log: Mapping[str, bool] = field(default_factory=dict)
    zoom: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = DEFAULT
    seen: frozenset[str] | None = None
    serial: int = 0

    @classmethod
    def from_page(cls, data: object) -> Choice:
        """From what the browser sends, which may be anything: what does not fit is left to the page."""
        entries = data if isinstance(data, dict) else {}
        run, view, step, log, zoom, more, seen, serial = (
            entries.get(name) for name in ("run", "view", "step", "log", "zoom", "more", "seen", "serial")
        )
        return cls(
            run if isinstance(run, str) and run else None,
            view if isinstance(view, str) and view else None,
            int(step) if _is_step(step) else None,
            "dark" if entries.get("scheme") == "dark" else "light",
            {str(name): bool(on) for name, on in log.items()} if isinstance(log, dict) else {},
            dict(_ranges(zoom)) if isinstance(zoom, dict) else {},
            {str(name): value for name, value in more.items() if isinstance(value, str)}
            if isinstance(more, dict)
            else {},
            _manner(entries.get("x"), entries.get("smooth"), entries.get("zone")),
            frozenset(map(str, seen)) if isinstance(seen, list) else None,
            int(serial) if _is_step(serial) else 0,
        )


def _manner(measure: object, smooth: object, zone: object) -> Manner:
    weight = float(smooth) if _is_step(smooth) and 0 <= smooth < 1 else None
    own = zone if isinstance(zone, str) else ""
    return Manner(next((known for known in MEASURES if known == measure), "step"), weight, own)


def _ranges(zoom: Mapping[object, object]) -> Iterator[tuple[str, tuple[float, float]]]:
    for name, ends in zoom.items():
        if isinstance(ends, list) and len(ends) == 2 and all(map(_is_step, ends)):
            low, high = sorted(map(float, ends))
            yield str(name), (low, high)


def _is_step(value: object) -> TypeGuard[float]:
    """Whether a browser's number can be a step: whole numbers above 2⁵³ are not exact there."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53


@dataclass(frozen=True)
class Page:
    """A run as it is shown.

    Args:
        run: Its name.
        source: Its log.
        screen: The view's screen; ``None`` for a run that brings none.
        arrangement: Which panels stand where.
        choice: What was asked for.
    """

    run: str
    source: Source
    screen: Screen | None
    arrangement: Arrangement
    choice: Choice
    _drawings: dict[str, Drawing] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def view(self) -> str:
        """The view's name."""
        return self.screen.name if self.screen else ALL_PANELS

    @property
    def views(self) -> list[str]:
        """The names of all views of this run."""
        return [screen.name for screen in self.source.header.screens] or [ALL_PANELS]

    @property
    def span(self) -> tuple[int, int]:
        """First and last step of the run; both 0 without points."""
        return self.source.span() or (0, 0)

    @property
    def step(self) -> int | None:
        """The selected step, within the run; ``None`` while the latest is followed."""
        if self.choice.step is None:
            return None
        first, last = self.span
        return min(max(self.choice.step, first), last)

    def panel(self, name: str) -> Panel:
        """The panel called ``name``."""
        return self.source.header.panels[name]

    def log(self, name: str) -> bool:
        """Whether the panel's value axis is logarithmic."""
        return self.choice.log.get(name, self.panel(name).yscale == "log")

    def drawing(self, name: str) -> Drawing:
        """The panel called ``name`` at the selected step; one that cannot be drawn says so and spares the others.

        However often it is asked for, it is drawn once.
        """
        if name not in self._drawings:
            self._drawings[name] = self._drawn(name)
        return self._drawings[name]

    def _drawn(self, name: str) -> Drawing:
        choice, panel, log = self.choice, self.panel(name), self.log(name)
        try:
            drawing = draw(
                name, panel, self.source, step=self.step, colours=palette(choice.scheme), log=log,
                zoom=choice.zoom.get(name), manner=choice.manner,
            )  # fmt: skip
        except UnreadableLog as error:
            self.source.refresh()  # raises where no panel can be drawn
            return Drawing({"data": [], "layout": {}}, empty=str(error))
        except Exception as error:  # a panel is a run's own data, which may hold anything
            logging.getLogger(__name__).exception("panel %r of run %r cannot be drawn", name, self.run)
            return Drawing({"data": [], "layout": {}}, empty=f"This panel cannot be drawn: {error!r}")
        drawing.figure["layout"]["uirevision"] = f"{self.run} {self.source.header.created}"  # another run: no old zoom
        return drawing

    @property
    def later(self) -> tuple[str, ...]:
        """Panels below the screen, which need not be drawn before those that are seen at once."""
        return self.arrangement.rest if self.arrangement.places else ()

    def blank(self, name: str) -> Drawing:
        """The panel called ``name`` before anything is known of it."""
        panel = self.panel(name)
        return Drawing(empty_figure(Scene(panel, keys_of(name, panel), colours=palette(self.choice.scheme))))

    def notice(self, name: str) -> str:
        """The last error or warning that concerns the panel, up to the selected step."""
        concerned = {name, *(key.split(".", 1)[0] for key in keys_of(name, self.panel(name)))}
        step = self.step
        for event in reversed(self.source.happened.alarms):
            seen = step is None or event.step is None or event.step <= step
            if seen and event.subject in concerned:
                where = "" if event.step is None else f" at step {event.step:,}"
                return f"{event.kind.capitalize()}{where}: {event.text}"
        return ""

    def identity(self) -> list[Any]:
        """Changes when panels come, go, or move, so that the page has to be laid out anew."""
        return [self.run, self.source.header.created, self.view, list(self.arrangement.names)]


def choose_run(runs: Sequence[RunSummary]) -> str | None:
    """The run that is shown when none was asked for: the newest of the running ones, else the newest readable one."""
    readable = [run for run in runs if run.state != "unreadable"]
    running = [run for run in readable if run.state == "running"]
    return max(running or readable, key=lambda run: run.created).name if readable else None


def look(sources: Sources, choice: Choice, run: str) -> Page:
    """The page for ``run``.

    Raises:
        KeyError: If there is no such run.
        UnreadableLog: If it cannot be read.
        ConnectionError: If its database is away.
    """
    return page_of(sources.get(run), choice, run)


def page_of(source: Source, choice: Choice, run: str) -> Page:
    """The page for the run that ``source`` reads."""
    header = source.header
    by_name = {screen.name: screen for screen in header.screens}
    screen = by_name.get(choice.view or "", next(iter(header.screens), None))
    panels = expected(header.panels, header.instruments, source.keys(), source.keys("user"), source.defined())
    return Page(run, source, screen, arrange(screen, panels, header.screens), choice)


def explain(error: Exception) -> str:
    """The error's own words."""
    return str(error.args[0]) if error.args else str(error)
