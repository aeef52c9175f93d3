"""Asks a dashboard that is served as its page does, over HTTP and without a browser."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from patience import LONG


def refreshing(dependencies: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the page's callbacks the one that looks at the log."""
    (found,) = [entry for entry in dependencies if "shown.data" in entry["output"] and not entry["clientside_function"]]
    return found


def question(callback: dict[str, Any], choice: dict[str, Any], shown: dict[str, Any] | None) -> dict[str, Any]:
    """What the page sends: no panel stands on it."""
    values = {"choice": choice, "shown": shown}
    ask = {name: [{**part, "value": values[part["id"]]} for part in callback[name]] for name in ("inputs", "state")}
    return {
        "output": callback["output"], "outputs": _outputs(callback["output"]), "changedPropIds": ["choice.data"], **ask
    }  # fmt: skip


def _outputs(spec: str) -> list[Any]:
    """What the browser makes of a callback's output: lists for patterns, which match nothing here."""
    parts = [part.rpartition(".") for part in spec.strip(".").split("...")]
    return [[] if name.startswith("{") else {"id": name, "property": prop} for name, _, prop in parts]


class Asker:
    """A page that asks whenever it is told to.

    Args:
        url: The dashboard's.

    Attributes:
        shown: What it shows, as the last answer said.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.shown: dict[str, Any] | None = None
        self._callback = refreshing(self._fetched("/_dash-dependencies"))

    def ask(self, **choice: Any) -> dict[str, Any]:
        """What has changed, by part of the page and property.

        Raises:
            urllib.error.HTTPError: If the server does not answer as it should.
        """
        answer = self._fetched("/_dash-update-component", question(self._callback, choice, self.shown))["response"]
        self.shown = answer["shown"]["data"]
        return dict(answer)

    def _fetched(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=LONG) as answer:
            return json.loads(answer.read())
