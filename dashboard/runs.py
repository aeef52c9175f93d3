"""The view Runs: a table of all runs, to find, name, compare and delete them."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from cockpit.dashboard.layout import labelled
from cockpit.dashboard.listing import Listing
from cockpit.dashboard.run_table import NOTES, TAGS, Columns, row, tags_of
from cockpit.dashboard.sources import Sources
from cockpit.dashboard.theme import Json, shorten
from cockpit.dashboard.view import Look, View
from cockpit.store import RunIsLive, UnreadableLog

REFUSALS = (KeyError, ValueError, OSError, UnreadableLog, RunIsLive)  # what a store says in words


def own(part: str) -> Json:
    """The id of a part of this view."""
    return {"runs": part, "nr": 0}


def anywhere(part: str) -> Json:
    """The part where the view is on the page, for callbacks that must not mind where it is not."""
    return {"runs": part, "nr": ALL}


def build(look: Look) -> list[Component]:
    """The table, still empty: it asks for its rows by itself."""
    tools: list[Component] = [
        dmc.TextInput(id=own("filter"), placeholder="Find in all columns", size="xs", className="runs-filter",
                      value=look.choice.more.get("find", ""),
                      **labelled("Find in all columns")),
        dmc.MultiSelect(id=own("columns"), placeholder="Columns", size="xs", searchable=True, className="runs-columns",
                        hidePickedOptions=True, limit=200, comboboxProps={"width": 260, "position": "bottom-start"},
                        **labelled("Columns")),
        dmc.Button("Compare", id=own("compare"), size="compact-sm", disabled=True, n_clicks=0),
        dmc.Button("Delete …", id=own("delete"), size="compact-sm", variant="default", disabled=True, n_clicks=0),
        html.Output("", id=own("count"), className="runs-count"),
    ]  # fmt: skip
    return [
        html.Section(
            [
                html.Div(tools, className="runs-tools"),
                html.P("", id=own("said"), className="notice", role="status"),
                _grid(),
                html.P(
                    "Enter or a click on its name opens a run. Tags and notes are edited in place: Enter or a double "
                    "click begins, Enter ends, Escape leaves them as they were. Space selects the row.",
                    className="how",
                ),
            ],
            className="runs",
            **labelled("Runs"),
        ),
        _dialog(),
        *(dcc.Store(id=own(part)) for part in ("ask", "answer", "doomed")),
    ]


def _grid() -> Component:
    grid: Component = dag.AgGrid(
        id=own("grid"),
        className="runs-grid",
        columnDefs=[],
        defaultColDef={"sortable": True, "resizable": True, "minWidth": 80, "width": 110},
        getRowId="params.data.name",
        columnSize=None,
        dashGridOptions={
            "rowSelection": {"mode": "multiRow", "enableClickSelection": False},
            "selectionColumnDef": {"pinned": "left", "width": 44, "resizable": False},
            "maintainColumnOrder": True,
            "tooltipShowDelay": 400,
            "undoRedoCellEditing": False,
            "stopEditingWhenCellsLoseFocus": True,
            "animateRows": False,
            "rowHeight": 32,
            "headerHeight": 34,
            "localeText": {"noRowsToShow": "No runs yet. A training script with Cockpit(…, run=…) puts one here."},
        },
        dangerously_allow_code=False,
    )
    return grid


def _dialog() -> Component:
    dialog: Component = dmc.Modal(
        [
            html.P("Their logs are removed from the disk. This cannot be undone."),
            html.Pre("", id=own("doomed-names"), className="doomed"),
            html.P("", id=own("live-names"), className="how"),
            dmc.Group(
                [
                    dmc.Button("Keep them", id=own("keep"), variant="default", n_clicks=0),
                    dmc.Button("Delete for good", id=own("delete-now"), color="red", n_clicks=0),
                ],
                justify="flex-end",
            ),
        ],
        id=own("dialog"),
        title="Delete runs?",
        opened=False,
    )
    return dialog


class Table:
    """What the callbacks of the view answer from; one for all pages."""

    def __init__(self, listing: Listing):
        self.listing = listing
        self.epoch = secrets.token_hex(4)  # of this process: a page may remember the revisions of an earlier one
        self._columns = Columns()
        self._learnt = 0
        self._lock = threading.Lock()

    def answer(self, ask: object) -> Json:
        """What has changed since the page asked last, all of it where it has not asked yet.

        Args:
            ask: From the page: ``table``, which of its tables asks; ``known``, what it was told to send with the next
                question; ``columns``, the names of those that the reader has chosen, as JSON, ``None`` for the usual
                ones; and ``sort``, their order.
        """
        asked: Json = ask if isinstance(ask, dict) else {}
        known: Json = found if isinstance(found := asked.get("known"), dict) else {}
        trouble = ""
        try:
            self.listing.look()
        except ConnectionError as error:  # a database that is away; the page asks again by itself
            trouble = str(error)
        with self._lock:
            seen = self.listing.since(self._learnt)
            self._learnt = seen.revision
            news = self._columns.learn(seen.changed)
            chosen = self._chosen(asked.get("columns"), known)
            same = known.get("epoch") == self.epoch and known.get("columns") == chosen
            definitions = self._columns.definitions(chosen, asked.get("sort"))
            offered = self._columns.offered() if news or not known else None
        revision = known.get("revision", 0) if same else 0
        changes = self.listing.since(revision if isinstance(revision, int) else 0)
        return {
            "table": asked.get("table"),
            "trouble": trouble,
            "whole": not same,
            "rows": [row(run, chosen) for run in changes.changed],
            "gone": changes.gone,
            "definitions": None if same and not news else definitions,
            "offered": offered,
            "known": {"epoch": self.epoch, "revision": changes.revision, "columns": chosen},
        }

    def _chosen(self, text: object, known: dict[str, Any]) -> list[str]:
        if isinstance(text, str):
            try:
                return self._columns.known(json.loads(text))
            except ValueError:
                return self._columns.usual()  # an address may say anything
        return self._columns.known(known.get("columns")) or self._columns.usual()

    def annotate(self, edits: object) -> str:
        """Store tags and notes as they were typed; what could not be stored is said."""
        said = []
        for edit in edits if isinstance(edits, list) else []:
            name, value = str(edit.get("rowId")), str(edit.get("value") or "")
            change: dict[str, Any] = {}
            if edit.get("colId") == TAGS:
                change = {"tags": tags_of(value)}
            elif edit.get("colId") == NOTES:
                change = {"notes": value}
            else:
                continue
            said += self._tried(lambda: self.listing.store.annotate(name, **change), name)  # noqa: B023 - called at once
        return " ".join(said)

    def delete(self, names: object) -> str:
        """Delete runs; those that could not be deleted, such as live ones, are said with the reason."""
        chosen = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
        said = []
        for name in chosen:
            said += self._tried(lambda: self.listing.store.delete(name), name)  # noqa: B023 - called at once
        return " ".join(said)

    def _tried(self, act: Callable[[], object], name: str) -> list[str]:
        said = []
        for what in (act, lambda: self.listing.renew([name])):
            try:
                what()
            except REFUSALS as error:
                said.append(shorten(str(error.args[0] if error.args else error), 400))
        return said


def register(app: Dash, sources: Sources) -> None:
    """The view's callbacks."""
    table = Table(sources.listing)
    said = Output(anywhere("said"), "children", allow_duplicate=True)

    @app.callback(Output(anywhere("answer"), "data"), Input(anywhere("ask"), "data"), prevent_initial_call=True)
    def tell(asked: Sequence[object]) -> list[Any]:
        return [table.answer(ask) if ask else no_update for ask in asked]

    @app.callback(said, Input(anywhere("grid"), "cellValueChanged"), prevent_initial_call=True)
    def annotate(edits: Sequence[object]) -> list[Any]:
        return [table.annotate(edit) if edit else no_update for edit in edits]

    @app.callback(
        said,
        Output(anywhere("dialog"), "opened"),
        Input(anywhere("delete-now"), "n_clicks"),
        State(anywhere("doomed"), "data"),
        prevent_initial_call=True,
    )
    def delete(clicks: Sequence[int], doomed: Sequence[object]) -> tuple[list[Any], list[Any]]:
        if not any(clicks):
            return [no_update] * len(doomed), [no_update] * len(doomed)
        return [table.delete(names) for names in doomed], [False] * len(doomed)

    _register_clientside(app)


def _register_clientside(app: Dash) -> None:
    """Wire the functions of ``assets/runs.js``, which set what they change themselves."""
    wires = {
        "showRuns": Input(anywhere("answer"), "data"),
        "countSelected": Input(anywhere("grid"), "selectedRows"),
        "compareRuns": Input(anywhere("compare"), "n_clicks"),
        "askForDeletion": Input(anywhere("delete"), "n_clicks"),
        "keepRuns": Input(anywhere("keep"), "n_clicks"),
        "endDialog": Input(anywhere("dialog"), "opened"),
    }
    for name, wire in wires.items():
        app.clientside_callback(ClientsideFunction("cockpit_runs", name), wire, prevent_initial_call=True)  # type: ignore[no-untyped-call]
    # Of callbacks without an output, Dash keeps one for each set of inputs: the page has one for what is shown.
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("cockpit_runs", "askForRuns"),
        Output(anywhere("ask"), "data"),
        Input("shown", "data"),
        prevent_initial_call=True,
    )
    for name, part in (("chooseColumns", "columns"), ("filterRuns", "filter")):
        app.clientside_callback(  # type: ignore[no-untyped-call]
            ClientsideFunction("cockpit_runs", name),
            Output("more", "data", allow_duplicate=True),
            Input(anywhere(part), "value"),
            prevent_initial_call=True,
        )


RUNS = View("Runs", False, identity=lambda look: [], build=build, register=register)
