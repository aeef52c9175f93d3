"""The one server callback, which looks at the log and redraws what has changed, and what the browser does by itself."""

from __future__ import annotations

from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, callback_context

from cockpit.dashboard.answer import answer
from cockpit.dashboard.page import Choice
from cockpit.dashboard.redraw import PARTS
from cockpit.dashboard.source import Sources
from cockpit.dashboard.views import VIEWS

LIST_EVERY = 5  # ticks between looks at the list of runs


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
        trigger = callback_context.triggered_id
        ticked, by_hand = trigger == "tick", trigger == "again"
        list_runs = not ticked or (ticks or 0) % LIST_EVERY == 0
        asked = Choice.from_page(choice)
        return answer(sources, asked, shown or {}, on_page, list_runs=list_runs, anew=by_hand, at_leisure=ticked)

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
