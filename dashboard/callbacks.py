"""The one server callback, which looks at the log and redraws what has changed, and what the browser does by itself."""

from __future__ import annotations

from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, callback_context

from cockpit.dashboard.answer import answer
from cockpit.dashboard.page import Choice
from cockpit.dashboard.redraw import PARTS
from cockpit.dashboard.sources import Sources
from cockpit.dashboard.views import VIEWS

LIST_EVERY = 5  # looks of a page by itself between those at the list of runs


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

    @app.callback(*outputs, Input("choice", "data"), State("shown", "data"), prevent_initial_call=True)
    def refresh(choice: object, shown: dict[str, Any] | None) -> list[Any]:
        on_page = [entry["id"]["panel"] for entry in callback_context.outputs_list[0]]
        asked = Choice.from_page(choice)
        why = choice.get("why") if isinstance(choice, dict) else None
        ticked = why == "tick"
        list_runs = not ticked or asked.serial % LIST_EVERY == 0
        return answer(sources, asked, shown or {}, on_page, list_runs=list_runs, anew=why == "again", at_leisure=ticked)

    _register_clientside(app)
    for view in VIEWS.values():
        view.register(app, sources)


def _register_clientside(app: Dash) -> None:
    """Wire the functions of the scripts in ``assets``. They set what they change: nothing runs in circles."""
    figures, logs = ({"part": kind, "panel": ALL} for kind in ("figure", "log"))
    controls = {"more": ALL, "default": ALL}
    wires: dict[tuple[str, str], list[Input | State]] = {
        ("cockpit", "start"): [Input("scheme-toggle", "id")],
        ("cockpit", "reflect"): [Input("shown", "data")],
        ("cockpit", "chooseRun"): [Input("run", "value")],
        ("cockpit", "chooseView"): [Input("view-select", "value"), Input("view-tabs", "value")],
        ("cockpit", "chooseMore"): [Input("more", "data")],
        ("cockpit", "chooseMeasure"): [Input("measure", "value")],
        ("cockpit", "smoothAsSuits"): [Input("smooth-auto", "n_clicks")],
        ("cockpit", "switchFollow"): [Input("follow", "checked")],
        ("cockpit", "lookForRuns"): [Input("again", "n_clicks")],
        ("cockpit", "openKeys"): [Input("keys-open", "n_clicks")],
        ("controls", "pickMore"): [Input(controls, "value"), State(controls, "id")],
        ("replay", "noteDrawn"): [Input({"drawn": ALL}, "data")],
        ("replay", "play"): [Input("play", "n_clicks"), State("speed", "value")],
        ("replay", "pace"): [Input("speed", "value")],
        ("replay", "loop"): [Input("loop", "checked")],
        ("scheme", "toggle"): [Input("scheme-toggle", "n_clicks")],
        ("axes", "switchLog"): [Input(logs, "checked"), State(logs, "id")],
        ("axes", "zoom"): [Input(figures, "relayoutData"), State(figures, "id")],
    }
    for (script, name), inputs in wires.items():
        app.clientside_callback(ClientsideFunction(script, name), *inputs)  # type: ignore[no-untyped-call]
