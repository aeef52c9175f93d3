"""What one request changes on the page: the outputs of the page's server callback, in their order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dash import no_update
from dash.development.base_component import Component

from cockpit.dashboard.layout import cards, message
from cockpit.dashboard.page import Choice, Page, choose_run, explain, look
from cockpit.dashboard.redraw import Drawn, behind, redraw, untouched, waiting
from cockpit.dashboard.sources import OUT_OF_REACH, Sources
from cockpit.dashboard.status import strip
from cockpit.dashboard.views import VIEWS, Look, View
from cockpit.drawing.timeline import ahead_of
from cockpit.store import RunSummary

TICK = 1000  # milliseconds between looks at a live log
SOON = 0  # to the look that draws what is below the screen, which the page begins once what is on it is drawn
LATER = 250  # to the look that draws it anew, unless the reader moves on before
IDLE = 2 * TICK  # between looks at a live log that has not grown: what happens is seen within two seconds
WAITING = 5 * TICK  # while the run is over and others are live
RESTS = 5  # looks at a live log that had not grown, from which on they are as rare


@dataclass(frozen=True)
class Runs:
    """The list of runs at one of its revisions."""

    revision: int
    all: Sequence[RunSummary]


def answer(
    sources: Sources, choice: Choice, shown: dict[str, Any], on_page: Sequence[str], *, list_runs: bool,
    anew: bool = False, at_leisure: bool = True,
) -> list[Any]:  # fmt: skip
    """What one request changes on the page.

    Args:
        sources: The runs.
        choice: What the reader asks for.
        shown: What the page shows, as the last answer told it. A page that differs from what is wanted is redrawn,
            whatever triggered the request: an answer that got lost is made good by the next.
        on_page: The panels whose cards are on the page.
        list_runs: Whether to look for other runs.
        anew: Whether to do so although it is not yet due.
        at_leisure: Whether there is time for panels that are not on the screen.
    """
    try:
        runs = _listed(sources, shown, anew=anew) if list_runs or not shown.get("run") else None
    except ConnectionError as error:  # a database that is away; the page asks again by itself
        return _without_run(choice, shown, on_page, None, str(error))
    try:
        return _shown(sources, choice, shown, on_page, runs, at_leisure)
    except OUT_OF_REACH as error:
        return _without_run(choice, shown, on_page, runs, explain(error))
    except Exception as error:  # a log may come from anywhere and hold anything
        logging.getLogger(__name__).exception("what was asked for cannot be shown: %r", choice)
        return _without_run(choice, shown, on_page, runs, f"This cannot be shown: {error!r}")


def _shown(
    sources: Sources, choice: Choice, shown: dict[str, Any], on_page: Sequence[str], runs: Runs | None, at_leisure: bool
) -> list[Any]:
    """The outputs where the runs are within reach."""
    view = VIEWS.get(choice.view or "")
    if view is not None and not view.of_run:
        return _of_view(view, Look(sources, choice, None), shown, on_page, runs)
    name = choice.run or shown.get("run") or choose_run(sources.listing.runs())
    if name is None:
        return _without_run(choice, shown, on_page, runs, _no_runs(sources))
    page = look(sources, choice, name)
    if view is not None:
        return _of_view(view, Look(sources, choice, page), shown, on_page, runs)
    return _of_run(page, shown, on_page, runs, at_leisure)


def _listed(sources: Sources, shown: dict[str, Any], *, anew: bool) -> Runs | None:
    """The list of runs; ``None`` where the page has it already."""
    listing = sources.listing
    listing.look(anew=anew or not listing.revision)  # as long as there are none, the first is waited for
    return None if shown.get("listed") == listing.revision else Runs(listing.revision, listing.runs())


def _of_run(
    page: Page, shown: dict[str, Any], on_page: Sequence[str], runs: Runs | None, at_leisure: bool
) -> list[Any]:
    """The outputs for a run: new cards where other panels stand on the page, else the panels that have changed."""
    names = page.arrangement.names
    state = _state(page, shown, runs, names)
    children: Any = no_update
    if state["identity"] != shown.get("identity"):
        children = cards(page)
        parts, drawn = untouched(on_page), {name: Drawn.now(page, name) for name in names if name not in page.later}
    else:
        parts, drawn = _redrawn(page, names, shown, on_page, at_leisure)
    return _outputs(page, parts, children, state | _told(page, names, drawn), shown, runs)


def _of_view(view: View, at: Look, shown: dict[str, Any], on_page: Sequence[str], runs: Runs | None) -> list[Any]:
    """The outputs for a view of its own: its components where another one stands on the page, and what is shown."""
    page = at.page
    held = view.panels(at) if page else ()
    state = _state(page, shown, runs, held) if page else _state_without_page(at, shown, runs)
    state |= {"view": view.name, "identity": [view.name, *view.identity(at)]}
    children: Any = no_update
    parts, drawn = untouched(on_page), {}
    if state["identity"] != shown.get("identity"):
        children = view.build(at)
        drawn = {name: Drawn.now(page, name) for name in held} if page else {}
    elif page:
        parts, drawn = _redrawn(page, held, shown, on_page, at_leisure=True)
    return _outputs(page, parts, children, state | (_told(page, held, drawn) if page else {}), shown, runs)


def _redrawn(
    page: Page, names: Sequence[str], shown: dict[str, Any], on_page: Sequence[str], at_leisure: bool
) -> tuple[list[list[Any]], dict[str, Drawn]]:
    """What is sent of panels that are behind: those on the screen, and others where there is time."""
    drawn, seen = Drawn.told(shown), page.choice.seen
    wanted = {name for name in behind(page, names, drawn) if seen is None or name in seen}
    return redraw(page, wanted.union(waiting(page, names, drawn) if at_leisure else ()), drawn, on_page)


def _outputs(
    page: Page | None, parts: list[list[Any]], children: Any, state: dict[str, Any], shown: dict[str, Any],
    runs: Runs | None,
) -> list[Any]:  # fmt: skip
    moved = any(state.get(name) != shown.get(name) for name in ("identity", "cursor", "state", "step"))
    state["idle"] = 0 if moved else shown.get("idle", 0) + 1
    top: Any = [] if page is None else strip(page) if moved else no_update
    menu = _menu(state["screens"]) if moved or state["screens"] != shown.get("screens") else no_update
    return [*parts, children, top, _options(runs), menu, menu, state | {"next": _pace(state)}]


def _state_without_page(at: Look, shown: dict[str, Any], runs: Runs | None) -> dict[str, Any]:
    """What a view shows that is of no single run; the run that was looked at before is kept in mind."""
    run = at.choice.run or shown.get("run")
    return {
        "serial": shown.get("serial", 0) + 1,
        "asked": at.choice.serial,
        "run": run,
        "listed": runs.revision if runs else shown.get("listed"),
        "screens": shown.get("screens") or _screens(at, run),
        "scheme": at.choice.scheme,
        "zone": at.choice.manner.zone,
        "more": dict(at.choice.more),
    }


def _screens(at: Look, run: str | None) -> list[str]:
    """The screens that lead back to a run; none where none can be read."""
    name = run or choose_run(at.sources.listing.runs())
    try:
        return look(at.sources, at.choice, name).views if name else []
    except OUT_OF_REACH:
        return []  # the view that is asked for says which runs cannot be read


def _menu(screens: Sequence[str]) -> list[str]:
    """Screens of the run, then the views of their own; where a run calls a screen by the name of one, that is it.

    Without a run there are the views that need none.
    """
    own = [view.name for view in VIEWS.values() if screens or not view.of_run]
    return list(dict.fromkeys((*screens, *own)))


def _state(page: Page, shown: dict[str, Any], runs: Runs | None, names: Sequence[str]) -> dict[str, Any]:
    """What the page will show, with the panels ``names``, as JSON keeps it."""
    first, last = page.span
    others = (
        shown.get("others", False)
        if runs is None
        else any(run.state == "running" for run in runs.all if run.name != page.run)
    )
    return {
        "serial": shown.get("serial", 0) + 1,
        "asked": page.choice.serial,
        "identity": page.identity(),
        "cursor": page.source.cursor,
        "state": page.source.state,
        "run": page.run,
        "view": page.view,
        "step": page.step,
        "first": first,
        "last": last,
        "log": {name: page.log(name) for name in names},
        "x": page.choice.manner.measure,
        "smooth": page.choice.manner.smooth,
        "others": others,
        "listed": runs.revision if runs else shown.get("listed"),
        "screens": page.views,
        "scheme": page.choice.scheme,
        "ahead": 1000 * ahead_of(page.choice.manner.zone, page.source.header.created),
        "more": dict(page.choice.more),
    }


def _told(page: Page, names: Sequence[str], drawn: dict[str, Drawn]) -> dict[str, Any]:
    """What the page keeps of its panels: how they are drawn, which are behind, and whether some wait to be drawn."""
    waits = waiting(page, names, drawn)
    return {
        "drawn": {name: list(asdict(drawn[name]).values()) for name in names if name in drawn},
        "behind": behind(page, names, drawn),
        "waits": "" if not waits else "anew" if all(name in drawn for name in waits) else "for the first time",
    }


def _pace(state: dict[str, Any]) -> int | None:
    """Milliseconds to the next look; ``None`` once every run is over and drawn."""
    if state.get("waits"):
        return LATER if state["waits"] == "anew" else SOON
    if state.get("state") is None:  # of no single run
        return IDLE
    if state["state"] == "running":
        return IDLE if state["idle"] >= RESTS else TICK
    return WAITING if state["others"] else None


def _options(runs: Runs | None) -> Any:
    """The run selector's choices."""
    if runs is None:
        return no_update
    return [{"value": run.name, "label": f"{run.name} · {run.state}"} for run in runs.all]


def _without_run(
    choice: Choice, shown: dict[str, Any], on_page: Sequence[str], runs: Runs | None, text: str
) -> list[Any]:
    """The page where no run can be shown: a sentence, and a look for runs every other second."""
    listed = runs.revision if runs else shown.get("listed")
    state = {"serial": shown.get("serial", 0) + 1, "asked": choice.serial, "identity": ["message", text]}
    state |= {"listed": listed, "next": IDLE}
    menu = _menu(())
    same = shown.get("identity") == state["identity"]
    children: Component | Any = no_update if same else message(text[:1].upper() + text[1:])
    return [*untouched(on_page), children, [], _options(runs), menu, menu, state]


def _no_runs(sources: Sources) -> str:
    return (
        f"There are no runs in {sources.store.logdir} yet. A training script with Cockpit(…, run=…) "
        "puts one there, and so does `cockpit demo`; it appears here by itself."
    )
