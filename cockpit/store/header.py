"""What a run's log says of it as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cockpit.panel import Panel, Screen
from cockpit.store.plain import plain


@dataclass(frozen=True)
class Header:
    """Description of a run, written once at its start. What JSON cannot hold is kept as text.

    Args:
        name: The run's name, as the user calls it.
        created: When it began, in seconds since 1970.
        config: The user's hyperparameters.
        tags: Words to find it by.
        panels: What can be drawn, by panel name.
        screens: Arrangements of panels.
        instruments: By name, how it was configured: ``{"interval": "every 10th step"}``.
        model: Class, and parameters as ``{"name", "shape", "numel", "module", "type"}``.
        optimizer: Class and hyperparameters of each parameter group.
        environment: Versions, device, commit, command line, seed.
        job: Of the process that wrote it: its ``rank``, the job's ``size`` in processes, and an ``id`` that all of them
            know.
    """

    name: str
    created: float
    config: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    panels: Mapping[str, Panel] = field(default_factory=dict)
    screens: tuple[Screen, ...] = ()
    instruments: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the log."""
        data = {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}
        data["panels"] = {name: panel.to_json() for name, panel in self.panels.items()}
        data["screens"] = [screen.to_json() for screen in self.screens]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Header:
        """The inverse of :meth:`to_json`; fields of a newer version are ignored."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        known["tags"] = tuple(known.get("tags", ()))
        known["panels"] = {name: Panel.from_json(panel) for name, panel in known.get("panels", {}).items()}
        known["screens"] = tuple(Screen.from_json(screen) for screen in known.get("screens", ()))
        return cls(**known)


def size_of(job: object) -> int:
    """Of how many processes a header's ``job`` says that it is; 0 where it does not say."""
    size = job.get("size") if isinstance(job, Mapping) else None
    return size if isinstance(size, int) and size > 0 else 0
