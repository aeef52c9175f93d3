"""The one server callback, which looks at the log and redraws what has changed, and what the browser does by itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, callback_context, no_update
from dash.development.base_component import Component

from cockpit.dashboard.changes import changes
from cockpit.dashboard.layout import TICK, cards, message, plot_style
from cockpit.dashboard.page import Choice, Page, choose_run, explain, look
from cockpit.dashboard.source import OUT_OF_REACH, Sources
from cockpit.dashboard.status import strip
from cockpit.dashboard.views import VIEWS, Look, View
from cockpit.store import RunSummary

SOON = 20  # to the look that draws what is below the screen
IDLE = 2 * TICK  # between looks at a live log that has not grown: what happens is seen within two seconds
WAITING = 5 * TICK  # while the run is over and others are live
LIST_EVERY = 5  # ticks between looks at the list of runs
PARTS = {"figure": "figure", "empty": "children", "words": "children", "notice": "children", "plot": "style"}


@dataclass(frozen=True)
class Runs:
    """The list of runs at one of its revisions."""

    revision: int
    all: Sequence[RunSummary]


def register(app: Dash, sources: Sources) -> None:
    """Connect the page to the runs."""
    outputs = [Output({"part": kind, "panel": ALL}, prop) for kind, prop in PARTS.items()]
    single = {
        "view": "children",
        "status": "children",
        "run": "data",
        "view-tabs": "data",
        "view-select": "data",
        "shown": "data",
    }
    outputs += [Output(name, prop) for name, prop in single.items()]
    outputs += [Output("tick", "interval"), Output("tick", "max_intervals")]

    @app.callback(
        *outputs,
        Input("tick", "n_intervals"),
        Input("choice", "data"),
        Input("again", "n_clicks"),
        State("shown", "data"),
        running=[(Output("tick", "disabled"), True, False)],
        prevent_initial_call=True,
    )
    def refresh(ticks: int | None, choice: object, again: int, shown: dict[str, Any] | None) -> list[Any]:
        on_page = [entry["id"]["panel"] for entry in callback_context.outputs_list[0]]
        by_hand = callback_context.triggered_id == "again"
        list_runs = callback_context.triggered_id != "tick" or (ticks or 0) % LIST_EVERY == 0
        return answer(sources, Choice.from_page(choice), shown or {}, on_page, list_runs=list_runs, anew=by_hand)

    _register_clientside(app)
    for view in VIEWS.values():
        view.register(app, sources)


def _register_clientside(app: Dash) -> None:
    """Wire the functions of ``assets/cockpit.js``. They set what they change themselves: nothing runs in circles."""
    figures, logs = ({"part": kind, "panel": ALL} for kind in ("figure", "log"))
    controls = {"more": ALL, "default": ALL}
    wires: dict[str, list[Input | State]] = {
        "start": [Input("scheme-toggle", "id")],
        "reflect": [Input("shown", "data")],
        "chooseRun": [Input("run", "value")],
        "chooseView": [Input("view-select", "value"), Input("view-tabs", "value")],
        "chooseMore": [Input("more", "data")],
        "chooseMeasure": [Input("measure", "value")],
        "smoothAsSuits": [Input("smooth-auto", "n_clicks")],
        "noteDrawn": [Input({"drawn": ALL}, "data")],
        "pickMore": [Input(controls, "value"), State(controls, "id")],
        "follow": [Input("follow", "checked")],
        "play": [Input("play", "n_clicks"), State("speed", "value")],
        "pace": [Input("speed", "value")],
        "loop": [Input("loop", "checked")],
        "openKeys": [Input("keys-open", "n_clicks")],
        "toggleScheme": [Input("scheme-toggle", "n_clicks")],
        "switchLog": [Input(logs, "checked"), State(logs, "id")],
        "zoom": [Input(figures, "relayoutData"), State(figures, "id")],
    }
    for name, inputs in wires.items():
        app.clientside_callback(ClientsideFunction("cockpit", name), *inputs)  # type: ignore[no-untyped-call]


def answer(
    sources: Sources, choice: Choice, shown: dict[str, Any], on_page: Sequence[str], *, list_runs: bool,
    anew: bool = False,
) -> list[Any]:  # fmt: skip
    """What one request changes on the page: the server callback's outputs in their order.

    Args:
        sources: The runs.
        choice: What the reader asks for.
        shown: What the page shows, as the last answer told it. A page that differs from what is wanted is redrawn,
            whatever triggered the request: an answer that got lost is made good by the next.
        on_page: The panels whose cards are on the page.
        list_runs: Whether to look for other runs.
        anew: Whether to do so although it is not yet due.
    """
    try:
        runs = _listed(sources, shown, anew=anew) if list_runs or not shown.get("run") else None
    except ConnectionError as error:  # a database that is away; the page asks again by itself
        return _without_run(shown, on_page, None, str(error))
    try:
        return _shown(sources, choice, shown, on_page, runs)
    except OUT_OF_REACH as error:
        return _without_run(shown, on_page, runs, explain(error))
    except Exception as error:  # a log may come from anywhere and hold anything
        logging.getLogger(__name__).exception("what was asked for cannot be shown: %r", choice)
        return _without_run(shown, on_page, runs, f"This cannot be shown: {error!r}")


def _shown(
    sources: Sources, choice: Choice, shown: dict[str, Any], on_page: Sequence[str], runs: Runs | None
) -> list[Any]:
    """The outputs where the runs are within reach."""
    view = VIEWS.get(choice.view or "")
    if view is not None and not view.of_run:
        return _of_view(view, Look(sources, choice, None), shown, on_page, runs)
    name = choice.run or shown.get("run") or choose_run(sources.listing.runs())
    if name is None:
        return _without_run(shown, on_page, runs, _no_runs(sources))
    page = look(sources, choice, name)
    if view is not None:
        return _of_view(view, Look(sources, choice, page), shown, on_page, runs)
    return _of_run(page, shown, on_page, runs)


def _listed(sources: Sources, shown: dict[str, Any], *, anew: bool) -> Runs | None:
    """The list of runs; ``None`` where the page has it already."""
    listing = sources.listing
    listing.look(anew=anew or not listing.revision)  # as long as there are none, the first is waited for
    return None if shown.get("listed") == listing.revision else Runs(listing.revision, listing.runs())


def _of_run(page: Page, shown: dict[str, Any], on_page: Sequence[str], runs: Runs | None) -> list[Any]:
    """The outputs for a run: new cards where other panels stand on the page, else the panels that have changed."""
    state = _state(page, shown, runs, page.arrangement.names)
    parts: list[list[Any]] = [[no_update] * len(on_page) for _ in PARTS]
    children: Any = no_update
    if state["identity"] != shown.get("identity"):
        children = cards(page)
        state["looks"] = {name: how for name, how in state["looks"].items() if name not in page.later}
    else:
        redrawn = [panel for panel in page.arrangement.names if _stale(panel, state, shown)]
        parts = _parts(page, shown, on_page, redrawn)
        for panel in set(redrawn).difference(on_page):  # its card is about to come, and is to be drawn then
            state["looks"].pop(panel)
            state["looks"] |= {name: how for name, how in shown.get("looks", {}).items() if name == panel}
    moved = any(state[name] != shown.get(name) for name in ("identity", "cursor", "state", "step"))
    state["idle"] = 0 if moved else shown.get("idle", 0) + 1
    top, menu = (strip(page), _menu(page.views)) if moved else (no_update, no_update)
    return [*parts, children, top, _options(runs), menu, menu, state, *_pace(state)]


def _of_view(view: View, at: Look, shown: dict[str, Any], on_page: Sequence[str], runs: Runs | None) -> list[Any]:
    """The outputs for a view of its own: its components where another one stands on the page, and what is shown."""
    page = at.page
    held = view.panels(at) if page else ()
    state = _state(page, shown, runs, held) if page else _state_without_page(at, shown, runs)
    state |= {"view": view.name, "identity": [view.name, *view.identity(at)]}
    parts: list[list[Any]] = [[no_update] * len(on_page) for _ in PARTS]
    children: Any = no_update
    if state["identity"] != shown.get("identity"):
        children = view.build(at)
    elif page:
        parts = _parts(page, shown, on_page, [panel for panel in held if _stale(panel, state, shown)])
    moved = any(state.get(name) != shown.get(name) for name in ("identity", "cursor", "state", "step"))
    state["idle"] = 0 if moved else shown.get("idle", 0) + 1
    top = strip(page) if page else []
    pace = _pace(state) if page else (IDLE, -1)
    menu = _menu(state["screens"])
    return [*parts, children, top, _options(runs), menu, menu, state, *pace]


def _state_without_page(at: Look, shown: dict[str, Any], runs: Runs | None) -> dict[str, Any]:
    """What a view shows that is of no single run; the run that was looked at before is kept in mind."""
    run = at.choice.run or shown.get("run")
    return {
        "serial": shown.get("serial", 0) + 1,
        "run": run,
        "listed": runs.revision if runs else shown.get("listed"),
        "screens": shown.get("screens") or _screens(at, run),
        "scheme": at.choice.scheme,
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
    """Screens of the run, then the views of their own; where a run calls a screen by the name of one, that is it."""
    return list(dict.fromkeys((*screens, *VIEWS)))


def _state(page: Page, shown: dict[str, Any], runs: Runs | None, names: Sequence[str]) -> dict[str, Any]:
    """What the page will show, with the panels ``names``, as JSON keeps it."""
    first, last = page.span
    others = (
        shown.get("others", False)
        if runs is None
        else any(run.state == "running" for run in runs.all if run.name != page.run)
    )
    zoom = {name: list(ends) for name, ends in page.choice.zoom.items()}
    manner = [page.choice.manner.measure, page.choice.manner.smooth]
    return {
        "serial": shown.get("serial", 0) + 1,
        "identity": page.identity(),
        "cursor": page.source.cursor,
        "state": page.source.state,
        "run": page.run,
        "view": page.view,
        "step": page.step,
        "first": first,
        "last": last,
        "log": {name: page.log(name) for name in names},
        "looks": {name: [page.step, page.choice.scheme, page.log(name), zoom.get(name), *manner] for name in names},
        "x": page.choice.manner.measure,
        "smooth": page.choice.manner.smooth,
        "others": others,
        "listed": runs.revision if runs else shown.get("listed"),
        "screens": page.views,
        "scheme": page.choice.scheme,
        "more": dict(page.choice.more),
    }


def _stale(panel: str, state: dict[str, Any], shown: dict[str, Any]) -> bool:
    """Whether the panel on the page differs from what it would be now."""
    grown = any(state[name] != shown.get(name) for name in ("identity", "cursor", "state"))
    return grown or state["looks"][panel] != shown.get("looks", {}).get(panel)


def _parts(page: Page, shown: dict[str, Any], on_page: Sequence[str], redrawn: Sequence[str]) -> list[list[Any]]:
    """For each of :data:`PARTS` the values of the panels on the page."""
    columns: list[list[Any]] = [[no_update] * len(on_page) for _ in PARTS]
    for position, name in enumerate(on_page):
        if name in redrawn:
            drawing = page.drawing(name)
            switched = page.log(name) != shown["log"][name] or page.choice.manner.measure != shown.get("x")
            whole = switched or name not in shown.get("looks", {})
            figure = drawing.figure if whole else changes(drawing.figure)
            values = (figure, drawing.empty, drawing.words, page.notice(name), plot_style(drawing.height))
            for column, value in zip(columns, values, strict=True):
                column[position] = value
    return columns


def _pace(state: dict[str, Any]) -> tuple[Any, Any]:
    """Milliseconds to the next look, and how many looks there will be: none once every run is over and drawn."""
    if len(state["looks"]) < len(state["log"]):
        return SOON, -1
    if state["state"] == "running":
        return IDLE if state["idle"] >= LIST_EVERY else TICK, -1
    return WAITING, -1 if state["others"] else 0


def _options(runs: Runs | None) -> Any:
    """The run selector's choices."""
    if runs is None:
        return no_update
    return [{"value": run.name, "label": f"{run.name} · {run.state}"} for run in runs.all]


def _without_run(shown: dict[str, Any], on_page: Sequence[str], runs: Runs | None, text: str) -> list[Any]:
    """The page where no run can be shown: a sentence, and a look for runs every other second."""
    listed = runs.revision if runs else shown.get("listed")
    state = {"serial": shown.get("serial", 0) + 1, "identity": ["message", text], "listed": listed}
    elsewhere = [view.name for view in VIEWS.values() if not view.of_run]
    same = shown.get("identity") == state["identity"]
    children: Component | Any = no_update if same else message(text)
    return [
        *([no_update] * len(on_page) for _ in PARTS),
        children,
        [],
        _options(runs),
        elsewhere,
        elsewhere,
        state,
        IDLE,
        -1,
    ]


def _no_runs(sources: Sources) -> str:
    return (
        f"There are no runs in {sources.store.logdir} yet. A training script with Cockpit(…, run=…) "
        "puts one there, and so does `cockpit demo`; it appears here by itself."
    )
