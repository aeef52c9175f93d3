"""A run in words and settings, as other tools take them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cockpit.run import Run
from cockpit.store import Event


def description_of(run: Run) -> dict[str, Any]:
    """What the log tells of a run beside its points, as JSON takes it."""
    header = run.header
    return {
        "config": dict(header.config),
        "tags": list(run.tags),
        "optimizer": list(header.optimizer),
        "instruments": dict(header.instruments),
        "environment": dict(header.environment),
        "model": {"class": header.model.get("class"), "parameters": _size(header.model)},
    }


def flat(settings: Mapping[str, Any], under: str = "") -> dict[str, bool | float | str]:
    """Settings without levels: ``{"data": {"size": 8}}`` becomes ``{"data.size": 8}``.

    What is neither number nor text nor one of two becomes JSON.
    """
    flattened: dict[str, bool | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flattened |= flat(value, f"{under}{name}.")
        else:
            flattened[f"{under}{name}"] = value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
    return flattened


def line_of(event: Event) -> str:
    """An event in one line."""
    about = f"{event.subject}: " if event.subject else ""
    return f"{event.kind}: {about}{event.text}"


def _size(model: Mapping[str, Any]) -> int:
    return sum(parameter.get("numel", 0) for parameter in model.get("parameters", ()))
