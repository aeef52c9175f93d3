"""A figure as changes to the one that is on the page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from dash import Patch

from cockpit.dashboard.theme import Drawing, Json

_DECIDES = ("type", "uirevision")  # settings of an axis on which it depends what its range means


def form_of(figure: Json) -> str:
    """Of figures of the same form either can become the other by changes: the same axes have the same settings."""
    layout: Json = {}
    for name, value in figure["layout"].items():
        settings = sorted(value.keys() - _kept(value)) if _is_axis(name) else None
        layout[name] = settings and [settings, *(value.get(decisive) for decisive in _DECIDES)]
    return digest(layout)


def forms_of(drawings: Mapping[str, Drawing]) -> dict[str, str]:
    """The forms of figures by their names."""
    return {name: form_of(drawing.figure) for name, drawing in drawings.items()}


def digest(value: Any) -> str:
    """A short text that differs wherever two values do, as JSON has them."""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return hashlib.blake2b(orjson.dumps(value, option=options), digest_size=9).hexdigest()


def changes(figure: Json, before: str | None) -> Patch | Json:
    """A figure as changes to the one on the page, except the ranges that the reader may have zoomed to.

    The graph keeps those in its own figure, which a whole new one would replace.

    Args:
        figure: The new figure.
        before: Form of the one on the page. Where it is another, or not known, nothing can be changed: the figure
            itself takes its place. Of an axis that is not there, a browser could not change a setting.
    """
    if form_of(figure) != before:
        return figure
    patch = Patch()
    patch["data"] = figure["data"]
    patch["layout"].update({name: value for name, value in figure["layout"].items() if not _is_axis(name)})
    for name, value in figure["layout"].items():
        if _is_axis(name):
            patch["layout"][name].update({setting: value[setting] for setting in value.keys() - _kept(value)})
    return patch


def _is_axis(name: str) -> bool:
    return name.startswith(("xaxis", "yaxis"))


def _kept(axis: Json) -> set[str]:
    """Settings that are the reader's."""
    return set() if axis.get("fixedrange") else {"range"}
