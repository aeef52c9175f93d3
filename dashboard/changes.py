"""A figure as changes to the one that is on the page."""

from __future__ import annotations

from dash import Patch

from cockpit.dashboard.theme import Json


def changes(figure: Json) -> Patch:
    """A figure as changes to the one on the page, except the ranges that the reader may have zoomed to.

    The graph keeps those in its own figure, which a whole new one would replace.
    """
    patch = Patch()
    patch["data"] = figure["data"]
    for name, value in figure["layout"].items():
        if name.startswith(("xaxis", "yaxis")):
            kept = () if value.get("fixedrange") else ("range",)
            for setting in value.keys() - kept:
                patch["layout"][name][setting] = value[setting]
        else:
            patch["layout"][name] = value
    return patch
