"""The view Compare: several runs in the same figures, where they part, and what was set differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from cockpit.dashboard.changes import changes, forms_of
from cockpit.dashboard.differences import card, parting_table, settings_table
from cockpit.dashboard.layout import graph_config, plot_style
from cockpit.dashboard.overlay import draw_overlay
from cockpit.dashboard.side_by_side import MEASURES, Compared, Rankings
from cockpit.dashboard.sources import MOST_RUNS, Sources
from cockpit.dashboard.theme import Drawing, Json, palette
from cockpit.dashboard.view import Look, View

NAME = "Compare"
HOW = (
    "Colour and dashes tell the run, everywhere on this page; a faint line is the readings, a strong one their average."
)
PARTS = {"legend": "children", "panels": "children", "parting": "children", "settings": "children", "drawn": "data"}
CONTROLS = {"runs": ("data", "value"), "keys": ("data", "value"), "over": ("value",)}


def own(part: str) -> Json:
    """The id of a part of this view."""
    return {"compare": part, "nr": 0}


def anywhere(part: str) -> Json:
    """The part where the view is on the page, for callbacks that must not mind where it is not."""
    return {"compare": part, "nr": ALL}


class Compare:
    """What the view is built from and answers from; one for all pages."""

    def __init__(self) -> None:
        self.rankings = Rankings()

    def build(self, at: Look) -> list[Component]:
        """The whole view, drawn."""
        shown = {"more": dict(at.choice.more), "run": at.choice.run, "scheme": at.choice.scheme}
        shown["zone"] = at.choice.manner.zone
        compared = Compared.of(at.sources, shown)
        runs = dmc.MultiSelect(
            id=own("runs"), data=_options(compared.names), value=list(compared.names), label="Runs", size="xs",
            searchable=True, maxValues=MOST_RUNS, limit=200, hidePickedOptions=True, className="compare-runs",
            placeholder="" if compared.names else "Choose two runs or more",
        )  # fmt: skip
        keys = dmc.MultiSelect(
            id=own("keys"), data=_options(compared.available), value=list(compared.keys), label="Quantities", size="xs",
            searchable=True, limit=200, hidePickedOptions=True, className="compare-keys",
        )  # fmt: skip
        measures = [{"value": measure, "label": label} for measure, label in MEASURES.items()]
        over = dmc.Select(
            id=own("over"), data=measures, value=compared.measure, label="Over", size="xs", allowDeselect=False,
            className="compare-over",
        )  # fmt: skip
        drawings = self.drawings(compared)
        drawn = self.drawn(compared) | {"forms": forms_of(drawings)}
        return [
            html.Div([runs, keys, over], className="compare-bar"),
            html.Div(_legend(compared), id=own("legend"), className="compare-legend"),
            html.Div(self.panels(compared, drawings), id=own("panels"), className="screen compare-panels"),
            html.Div(
                [
                    html.Div(self.parting(compared), id=own("parting"), className="stack"),
                    html.Div(settings_table(compared), id=own("settings"), className="stack"),
                ],
                className="screen compare-tables",
            ),
            dcc.Store(id=own("drawn"), data=drawn),
            dcc.Store(id=own("ranked")),
        ]

    def drawings(self, compared: Compared) -> dict[str, Drawing]:
        """The figure of each key."""
        return {key: self.drawing(compared, key) for key in compared.keys}

    def drawn(self, compared: Compared) -> Json:
        """What is on the page: what is laid out, and the state of what is drawn. Figures' forms are kept beside it."""
        pairs = [self.rankings.known(compared, pair) for pair in pairs_of(compared)]
        return {
            "layout": [
                list(compared.names),
                sorted(compared.trouble),
                list(compared.keys),
                compared.measure,
                compared.zone,
            ],
            "look": [compared.scheme, compared.version()],
            "rankings": [known and known[0] for known in pairs],
            "chosen": {"runs": list(compared.names), "keys": list(compared.keys), "over": compared.measure},
        }

    def panels(self, compared: Compared, drawings: Mapping[str, Drawing]) -> list[Component]:
        """A figure for each key, or what to do to get one."""
        if not compared.keys:
            return [html.P(_nothing(compared), className="message")]
        return [_card(key, drawing) for key, drawing in drawings.items()]

    def drawing(self, compared: Compared, key: str) -> Drawing:
        """The figure of one key."""
        curves, colours, log = compared.curves(key), palette(compared.scheme), compared.log(key)
        parting = self._parting_of(compared, key)
        drawing = draw_overlay(key, curves, compared.across(), colours, log=log, parting=parting)
        placed = {curve.run for curve in curves}
        lost = [name for name in compared.runs if name not in placed]
        said = [f"{name} has not logged {'its batch size' if compared.measure == 'samples' else key}" for name in lost]
        apart = [f"apart for good from step {parting:,} on"] if parting is not None else []
        words = "; ".join([*apart, *said, *([drawing.words] if drawing.words else [])])
        return Drawing(drawing.figure, words, height=drawing.height)

    def _parting_of(self, compared: Compared, key: str) -> int | None:
        """The step from which on two runs, if there are two, stay apart in a key."""
        pairs = pairs_of(compared)
        known = self.rankings.known(compared, pairs[0]) if len(pairs) == 1 else None
        bare, _, layer = key.partition("[")
        found = known[1].apart if known else ()
        return next((each.step for each in found if (each.key, each.layer) == (bare, layer.removesuffix("]"))), None)

    def parting(self, compared: Compared) -> list[Component]:
        """A table of first divergences for the first run beside each other one."""
        return [parting_table(compared, pair, self.rankings.known(compared, pair)) for pair in pairs_of(compared)]

    def answer(
        self, sources: Sources, shown: Mapping[str, Any], drawn: Mapping[str, Any], graphs: Sequence[str]
    ) -> dict[str, Any] | None:
        """What has changed since the page was drawn, by part; ``figures`` and ``words`` for the graphs on the page."""
        compared = Compared.of(sources, shown)
        now, before = self.drawn(compared), dict(drawn)
        forms = before.pop("forms", {})
        if now == before:
            return None
        drawings = self.drawings(compared)
        found: dict[str, Any] = {"drawn": now | {"forms": forms_of(drawings)}}
        if now["layout"] != before.get("layout"):
            found |= {"panels": self.panels(compared, drawings), "settings": settings_table(compared)}
            found |= {"runs": list(compared.names), "keys": list(compared.keys), "over": compared.measure}
        elif all(key in drawings for key in graphs):
            found |= {"figures": [changes(drawings[key].figure, forms.get(key)) for key in graphs]}
            found |= {"words": [drawings[key].words for key in graphs]}
        found |= {"legend": _legend(compared), "parting": self.parting(compared)}
        found["available"] = _options(compared.available)
        return found

    def rank(self, sources: Sources, shown: Mapping[str, Any]) -> None:
        """Bring the rankings up to date, as far as that is due."""
        compared = Compared.of(sources, shown)
        for pair in pairs_of(compared):
            self.rankings.refresh(compared, pair)

    def register(self, app: Dash, sources: Sources) -> None:
        """Keep the view as its runs are."""
        _register_drawing(app, sources, self)
        app.clientside_callback(  # type: ignore[no-untyped-call]
            ClientsideFunction("compare", "choose"),
            Output("more", "data", allow_duplicate=True),
            *(Input(anywhere(part), "value") for part in CONTROLS),
            State(anywhere("drawn"), "data"),
            prevent_initial_call=True,
        )

        @app.callback(
            Output(anywhere("ranked"), "data"),
            Input("shown", "data"),
            State(anywhere("ranked"), "data"),
            prevent_initial_call=True,
        )
        def ranked(shown: dict[str, Any] | None, there: list[Any]) -> list[Any]:
            if there and shown and shown.get("view") == NAME:
                self.rank(sources, shown)
            return [no_update] * len(there)


def _card(key: str, drawing: Drawing) -> Component:
    graph = dcc.Graph(
        id={"compare-figure": key}, figure=drawing.figure, config=graph_config("compare", key), responsive=True,
        className="graph",
    )  # fmt: skip
    plot = html.Div(graph, className="plot", style=plot_style(drawing.height))
    words = html.P(drawing.words, id={"compare-words": key}, className="words")
    return card(key, [html.Div(html.H3(key), className="heading"), plot, words])


def _register_drawing(app: Dash, sources: Sources, view: Compare) -> None:
    controls = [Output(anywhere(part), prop) for part, props in CONTROLS.items() for prop in props]

    @app.callback(
        *(Output(anywhere(part), prop) for part, prop in PARTS.items()),
        *controls,
        Output({"compare-figure": ALL}, "figure"),
        Output({"compare-words": ALL}, "children"),
        Input("shown", "data"),
        State("run", "data"),
        State(anywhere("drawn"), "data"),
        State(anywhere("runs"), "data"),
        State({"compare-figure": ALL}, "id"),
        prevent_initial_call=True,
    )
    def refresh(
        shown: dict[str, Any] | None, runs: Any, drawn: list[Any], offered: list[Any], ids: list[dict[str, str]]
    ) -> list[Any]:
        there = bool(drawn) and bool(shown) and (shown or {}).get("view") == NAME
        graphs = [entry["compare-figure"] for entry in ids]
        found = view.answer(sources, shown or {}, drawn[0] or {}, graphs) if there else None
        changed = found or {}
        number = 1 if drawn else 0
        parts = [[changed.get(part, no_update)] * number for part in PARTS]
        choices = [option["value"] for option in runs or []]
        options = _options(choices) if choices and [_options(choices)] != offered else no_update
        values = [options, changed.get("runs", no_update), changed.get("available", no_update)]
        values += [changed.get("keys", no_update), changed.get("over", no_update)]
        same = [no_update] * len(graphs)
        chosen = [[value] * number for value in values]
        return [*parts, *chosen, changed.get("figures", same), changed.get("words", same)]


def pairs_of(compared: Compared) -> list[tuple[str, str]]:
    """The first run that can be read beside each of the others."""
    first, *others = compared.runs or [""]
    return [(first, other) for other in others]


def _options(names: Sequence[str]) -> list[Json]:
    return [{"value": name, "label": name} for name in names]


def _nothing(compared: Compared) -> str:
    if not compared.names:
        return "Choose two runs or more above: what they have in common is drawn here as soon as they have readings."
    if not compared.runs:
        return "None of these runs can be read."
    return "These runs have no quantity in common yet. Those that all of them log appear here with their first reading."


def _legend(compared: Compared) -> list[Component]:
    """Each run with a sample of its line, or why it cannot be read."""
    entries = []
    for name in compared.names:
        source = compared.runs.get(name)
        last = source.span() if source else None
        words = compared.trouble.get(name) or f"{source.state if source else ''}{f', step {last[1]:,}' if last else ''}"
        swatch = html.Span(className="swatch", style=compared.sample(name))
        entries.append(html.Span([swatch, html.B(name), html.Span(words, className="name")], className="run"))
    advice = [html.Span("Choose another run to compare it with.", className="name")] if len(entries) == 1 else []
    return [*entries, *advice, html.Span(HOW, className="how")] if entries else []


_COMPARE = Compare()
COMPARE = View(NAME, False, lambda at: [], _COMPARE.build, _COMPARE.register)
