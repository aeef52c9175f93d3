"""What every figure shares: colours, fonts, axes, and the way numbers and words enter a figure."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.columns import up_to as up_to
from cockpit.drawing.words import number as number
from cockpit.drawing.words import share as share
from cockpit.drawing.words import shorten as shorten

Json: TypeAlias = dict[str, Any]

ROW_HEIGHT = 180  # pixels of a figure in a panel that is one row high
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


# Cividis, from dark to bright: it reads the same with every kind of colour vision.
SCALE = tuple(
    zip(
        (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0),
        ("#00224e", "#223a6b", "#45506c", "#61676f", "#7c7b78", "#9a9177", "#b9aa6d", "#dac659", "#fee838"),
        strict=True,
    )
)


@dataclass(frozen=True)
class Palette:
    """Colours of one colour scheme; each stands out from the paper and from the others for colour-blind readers too.

    Args:
        paper: Background of a panel.
        ink: Text that is read.
        muted: Text and lines that explain.
        grid: Grid lines.
        run: The run. Within a panel, position and dash tell its quantities apart.
        run_fill: The same, for areas.
        run_ghost: The same, for raw values behind their average.
        mark: The selected step, and what is emphasised.
        alarm: Warnings, errors, and values that are not numbers.
        veil: Laid over what comes after the selected step.
    """

    paper: str
    ink: str
    muted: str
    grid: str
    run: str
    run_fill: str
    run_ghost: str
    mark: str
    alarm: str
    veil: str


LIGHT = Palette(
    paper="#ffffff",
    ink="#1c2430",
    muted="#5a6675",
    grid="#e6eaef",
    run="#0060a8",
    run_fill="rgba(0, 96, 168, 0.20)",
    run_ghost="rgba(0, 96, 168, 0.32)",
    mark="#b34700",
    alarm="#b00038",
    veil="rgba(255, 255, 255, 0.72)",
)
DARK = Palette(
    paper="#1b1f26",
    ink="#e6eaf0",
    muted="#a3adba",
    grid="#323945",
    run="#62b5f0",
    run_fill="rgba(98, 181, 240, 0.24)",
    run_ghost="rgba(98, 181, 240, 0.34)",
    mark="#f2a65a",
    alarm="#ff7d9c",
    veil="rgba(27, 31, 38, 0.72)",
)

# For a figure that is drawn once and coloured later: each colour's own name, between characters that no text keeps.
NAMES = Palette(**{name: f"\ue000{name}\ue001" for name in Palette.__dataclass_fields__})


def palette(scheme: str | None) -> Palette:
    """The colours of ``"dark"``, their names for ``"names"``, and for anything else those of ``"light"``."""
    return {"dark": DARK, "names": NAMES}.get(scheme or "", LIGHT)


@dataclass(frozen=True)
class Drawing:
    """One panel's content at one step.

    Args:
        figure: A plotly figure as plain data.
        words: What the figure cannot show, in a line of text below it.
        empty: Why there is nothing to see yet, shown in the figure's place.
        height: Pixels below which the figure would be cramped.
    """

    figure: Json
    words: str = ""
    empty: str = ""
    height: int = ROW_HEIGHT


def plain(text: str) -> str:
    """Text that plotly shows as it is: plotly would read ``<b>`` and ``<a href=…>`` as markup, and fill in ``%{y}``."""
    visible = "".join(character if character.isprintable() else " " for character in text)
    return visible.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "%&#123;")


def typed(values: NDArray[Any]) -> Json:
    """An array as plotly's typed base64; NaN, as which missing values are passed, is drawn as a gap."""
    single = "<f4" if values.dtype == np.float32 else "<f8"
    array = np.ascontiguousarray(values, dtype="<i4" if values.dtype.kind in "iu" and _fits(values) else single)
    shape = {"shape": ", ".join(map(str, values.shape))} if values.ndim > 1 else {}
    return {"dtype": array.dtype.str[1:], "bdata": base64.b64encode(array.tobytes()).decode("ascii"), **shape}


def _fits(values: NDArray[Any]) -> bool:
    limits = np.iinfo(np.int32)
    return bool(values.size == 0 or (values.min() >= limits.min and values.max() <= limits.max))


def base_layout(colours: Palette, *, top: int = 8, bottom: int = 34, left: int = 52, right: int = 10) -> Json:
    """The layout every figure starts from."""
    return {
        "paper_bgcolor": colours.paper,
        "plot_bgcolor": colours.paper,
        "font": {"family": FONT, "size": 11, "color": colours.muted},
        "margin": {"t": top, "b": bottom, "l": left, "r": right},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {
            "font": {"family": FONT, "size": 11, "color": colours.ink},
            "bgcolor": colours.paper,
            "bordercolor": colours.muted,
        },
        "dragmode": "zoom",
        "modebar": {"bgcolor": "rgba(0, 0, 0, 0)", "color": colours.muted, "activecolor": colours.mark},
    }


def axis(colours: Palette, title: str = "", **settings: Any) -> Json:
    """An axis with its name and a quiet grid; ``settings`` are plotly's and win.

    What an earlier drawing of the same panel may have set differently is always named.
    """
    return {
        "visible": True,
        "fixedrange": False,
        "autorangeoptions": {},
        "title": {"text": plain(title), "standoff": 6, "font": {"size": 11}},
        "gridcolor": colours.grid,
        "linecolor": colours.grid,
        "zeroline": False,
        "ticks": "",
        "exponentformat": "power",
        **settings,
    }


def note(colours: Palette, text: str, **settings: Any) -> Json:
    """A piece of text in a figure; ``text`` is shown as it is, ``settings`` are plotly's."""
    return {"text": plain(text), "showarrow": False, "font": {"size": 11, "color": colours.muted}, **settings}
