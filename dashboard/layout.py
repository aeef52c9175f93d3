"""The page's parts: the strip on top, the replay bar, and a card for each panel. All text stays text."""

from __future__ import annotations

from typing import Any, TypeAlias

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from cockpit.dashboard.links import link
from cockpit.dashboard.page import Page
from cockpit.dashboard.panels import LOGARITHMIC
from cockpit.drawing.arrange import Arrangement
from cockpit.panel import Place

Id: TypeAlias = "dict[str, str]"

SPEEDS = ("60", "30", "10")  # seconds for a replay of the whole run
MEASURE_NAMES = {"step": "over steps", "log": "over log steps", "wall": "over time of day", "relative": "over time"}
FILLING = 2  # rows of panels share the window's height
IN_FULL = "Panel"  # the view that shows one panel alone
KEYS = (
    ("← →", "One step back or on; with Shift a fiftieth of the run"),
    ("Home, End", "The first step; the latest, which is then followed"),
    ("Space", "Play and pause"),
    ("1 … 9", "The views in their order"),
    ("D", "Dark or light"),
    ("?", "This list"),
    ("Esc", "Closes what is open"),
)
THEME = {"primaryColor": "blue", "fontFamily": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"}


def part(kind: str, panel: str) -> Id:
    """The id of a panel's part: ``figure``, ``words``, ``empty``, ``notice``, ``log`` or ``plot``."""
    return {"part": kind, "panel": panel}


def labelled(text: str) -> dict[str, Any]:
    """What a screen reader says for a part without visible words."""
    return {"aria-label": text}


def skeleton() -> Component:
    """The page before it knows any run."""
    page: Component = dmc.MantineProvider(
        [
            dcc.Store(id="choice"),
            dcc.Store(id="shown"),
            dcc.Store(id="more"),
            html.A("Skip to the panels", href="#view", className="skip"),  # assets/keys.js follows it
            html.Header([_brand(), html.Div(id="status", className="status")], className="strip"),
            html.Nav(_replay(), id="replay", className="replay", **labelled("Replay")),
            html.Main(html.P("Looking for runs …", className="message"), id="view", tabIndex=-1),
            _keys(),
        ],
        id="theme",
        theme=THEME,
        defaultColorScheme="light",
    )
    return page


def _brand() -> Component:
    run = dmc.Select(
        id="run",
        placeholder="Choose a run",
        searchable=True,
        allowDeselect=False,
        nothingFoundMessage="No such run",
        size="xs",
        className="run-select",
        comboboxProps={"width": "max-content", "position": "bottom-start"},
        **labelled("Run"),
    )
    tabs = dmc.SegmentedControl(id="view-tabs", data=[], size="xs", className="view-tabs", **labelled("View"))
    view = dmc.Select(id="view-select", allowDeselect=False, size="xs", className="view-select", **labelled("View"))
    keys = dmc.ActionIcon("?", id="keys-open", variant="default", size="md", **labelled("Keyboard"), n_clicks=0)
    scheme = dmc.ActionIcon(
        "◐", id="scheme-toggle", variant="default", size="md", **labelled("Dark or light"), n_clicks=0
    )
    again = dmc.ActionIcon("↻", id="again", variant="default", size="md", **labelled("Look for new runs"), n_clicks=0)
    return html.Div([html.H1("Cockpit"), run, again, tabs, view, scheme, keys], className="brand")


def _keys() -> Component:
    """What the keys do; ``assets/keys.js`` does it."""
    rows = [html.Tr([html.Td(html.Kbd(keys)), html.Td(does)]) for keys, does in KEYS]
    dialog: Component = dmc.Modal(
        html.Table(html.Tbody(rows), className="keys"), id="keys", title="Keyboard", opened=False
    )
    return dialog


def _replay() -> list[Component]:
    speeds = [{"value": seconds, "label": f"in {seconds} s"} for seconds in SPEEDS]
    return [
        dmc.Button("Play", id="play", size="compact-sm", variant="default", n_clicks=0, className="play"),
        dmc.Select(id="speed", data=speeds, value=SPEEDS[1], allowDeselect=False, size="xs", className="speed",
                   **labelled("Duration of the replay")),
        dmc.Checkbox(id="loop", label="Loop", checked=False, size="xs"),
        html.Div(id="slider", className="slider"),  # filled by assets/ranges.js
        html.Output(id="step", className="step"),
        dmc.Switch(id="follow", label="Follow latest", checked=True, size="sm"),
        html.Div(_manner(), className="manner"),
    ]  # fmt: skip


def _manner() -> list[Component]:
    """How curves are drawn: over what, and how smooth."""
    measures = [{"value": measure, "label": label} for measure, label in MEASURE_NAMES.items()]
    over = dmc.Select(
        id="measure", data=measures, value="step", allowDeselect=False, size="xs", className="measure",
        **labelled("Horizontal axis"),
    )  # fmt: skip
    slider = html.Div(id="smooth", className="smooth")  # filled by assets/ranges.js
    auto = dmc.Button(
        "auto", id="smooth-auto", size="compact-xs", variant="light", n_clicks=0,
        **labelled("Smooth as suits each curve"),
    )  # fmt: skip
    return [over, html.Span("smoothing", className="name"), slider, auto]


def cards(page: Page) -> list[Component]:
    """The view's panels in their places, the others below."""
    arrangement = page.arrangement
    if not arrangement.names:
        return [message("This run declares no panels, so there is nothing to draw.")]
    parts = [_grid(page)] if arrangement.places else []
    if arrangement.rest:
        rest = [card(page, name, later=name in page.later) for name in arrangement.rest]
        heading = [html.H2("More from this run", className="more")] if parts else []
        parts += [*heading, html.Div(rest, className="screen flowing")]
    return parts


def _grid(page: Page) -> Component:
    placed = [card(page, place.panel, place) for place in page.arrangement.places]
    return html.Div(placed, className=grid_class(page.arrangement), style={"--columns": page.arrangement.columns})


def grid_class(arrangement: Arrangement) -> str:
    """Classes of a screen's grid, which fills the window where its rows are as many as fit."""
    rows = max(place.row + place.height for place in arrangement.places)
    return f"screen columns-{min(arrangement.columns, 3)}{' fills' if rows == FILLING else ''}"


def card(page: Page, name: str, place: Place | None = None, *, in_full: bool = False, later: bool = False) -> Component:
    """A panel with its words.

    Args:
        page: Where it stands.
        name: The panel's name.
        place: Its cells, on a screen.
        in_full: Whether it is the page's only panel; else its heading leads to where it is.
        later: Whether its drawing comes with the next answer.
    """
    panel, drawing = page.panel(name), page.blank(name) if later else page.drawing(name)
    title: str | Component = panel.title or name
    if not in_full:
        title = link(title, page, IN_FULL, {"panel": name}, title="Open in full")
    tools = []
    if panel.kind in LOGARITHMIC:
        tools.append(dmc.Checkbox(id=part("log", name), label="log", checked=page.log(name), size="xs"))
    how = html.P(panel.how_to_read, className="how")
    heading = html.Div([html.H3(title), how, *tools], className="heading")
    graph = dcc.Graph(
        id=part("figure", name),
        figure=drawing.figure,
        config=graph_config(page.run, name),
        responsive=True,
        className="graph",
    )
    plot = html.Div(
        [graph, html.P(drawing.empty, id=part("empty", name), className="empty")],
        id=part("plot", name),
        className="plot",
        style=plot_style(drawing.height),
    )
    return html.Section(
        [
            heading,
            html.P(page.notice(name), id=part("notice", name), className="notice", role="status"),
            plot,
            html.P(drawing.words, id=part("words", name), className="words"),
        ],
        className=panel_class(panel.kind),
        style=grid_cells(place) if place else {},
        **labelled(panel.title or name),
    )


def panel_class(kind: str) -> str:
    """Classes of a panel's card."""
    return f"panel kind-{kind if kind.isalnum() else 'other'}"


def grid_cells(place: Place) -> dict[str, Any]:
    """Grid lines as variables, which the stylesheet ignores on narrow screens."""
    return {
        "--column": f"{place.column + 1} / span {place.width}",
        "--row": f"{place.row + 1} / span {place.height}",
    }


def plot_style(height: int) -> dict[str, Any]:
    """The least height of a panel's plot."""
    return {"minHeight": f"{height}px"}


def graph_config(run: str, name: str) -> Any:
    """Plotly's settings: nothing leaves the machine; ``assets/pictures.js`` saves pictures in place of Plotly's button.

    Args:
        run: What is said in a picture, and in the name of its file.
        name: The panel, in that name.
    """
    return {
        "displaylogo": False,
        "showSendToCloud": False,
        "showEditInChartStudio": False,
        "showLink": False,
        "displayModeBar": "hover",
        "doubleClick": "reset+autosize",
        "modeBarButtonsToRemove": ["toImage", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
        "toImageButtonOptions": {"filename": file_name(f"{run}-{name}"), "scale": 2, "run": run},
    }


def file_name(text: str) -> str:
    """``text`` as the name of a file, without an ending."""
    return "".join(character if character.isalnum() or character in "-_." else "-" for character in text)[:120]


def message(text: str) -> Component:
    """A sentence in the place of the panels."""
    return html.P(text, className="message")
