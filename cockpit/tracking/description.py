"""What a log says about a run before its first step: panels, model, optimizer, environment."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cockpit.instrument import Instrument
from cockpit.panel import Panel
from cockpit.parameters import ParameterTable
from cockpit.schedule import Auto, Schedule, describe
from cockpit.screens import PANELS, SCREENS
from cockpit.store import Header
from cockpit.tracking.bookkeeping import KEYS


def describe_run(
    model: nn.Module,
    table: ParameterTable,
    optimizers: Sequence[Optimizer],
    instruments: Sequence[Instrument],
    schedule: Schedule | Auto,
    config: Mapping[str, Any],
    tags: tuple[str, ...],
) -> Header:
    """The header of a run's log; its name is left to whoever opens the log."""
    return Header(
        name="",
        created=time.time(),
        config=config,
        tags=tags,
        panels=panels_of(instruments),
        screens=SCREENS,
        instruments={i.name: _describe_instrument(i, schedule) for i in instruments},
        model={
            "class": type(model).__name__,
            "parameters": [
                {
                    "name": p.name,
                    "shape": list(p.tensor.shape),
                    "numel": p.tensor.numel(),
                    "module": p.name.rpartition(".")[0],
                    "type": type(p.owners[0][0]).__name__,
                }
                for p in table
            ],
        },
        optimizer=[describe_optimizer(o) for o in optimizers],
        environment=environment(table[0].tensor),
    )


def _describe_instrument(instrument: Instrument, schedule: Schedule | Auto) -> dict[str, Any]:
    combine = {"combine": dict(instrument.combine)} if instrument.combine else {}
    settings = {name: _plain(value) for name, value in instrument.settings.items()}
    return {
        "interval": describe(instrument.schedule or schedule),
        **({"settings": settings} if settings else {}),
        **combine,
    }


def panels_of(instruments: Sequence[Instrument]) -> dict[str, Panel]:
    """Each instrument's own panel, and the shared ones that find something to read."""
    panels = {i.name: _with_keys(i) for i in instruments if i.panel is not None}
    keys = {i.name for i in instruments} | set(KEYS)
    shared = {name: panel for name, panel in PANELS.items() if panel.user_metrics or keys & set(panel.keys)}
    drawn = {key for panel in (panels | shared).values() for key in panel.keys}
    # What nobody draws still deserves a plain curve: a user's instrument need not declare a panel.
    plain = {
        i.name: Panel(title=i.name, kind="lines", keys=(i.name,), how_to_read=_first_line(i))
        for i in instruments
        if i.name not in drawn
    }
    return panels | shared | plain


def _with_keys(instrument: Instrument) -> Panel:
    panel = instrument.panel
    assert panel is not None
    return panel if panel.keys else dataclasses.replace(panel, keys=(instrument.name,))


def _first_line(instrument: Instrument) -> str:
    return (type(instrument).__doc__ or instrument.name).strip().splitlines()[0]


def _plain(value: object) -> int | float | str | bool | None:
    """As JSON holds it."""
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)


def describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's class and the options of its groups."""
    groups = [
        {key: _plain(value) for key, value in group.items() if key != "params"} for group in optimizer.param_groups
    ]
    return {"class": type(optimizer).__name__, "groups": groups}


def environment(tensor: Tensor) -> dict[str, Any]:
    """Versions, machine, command line and seed, and where the parameters are, of which ``tensor`` is one."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(tensor.device),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "seed": torch.initial_seed(),
        "command": " ".join(sys.argv),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Commit of the script's repository, if it is in one."""
    where = Path(sys.argv[0]).resolve().parent if sys.argv and sys.argv[0] else Path.cwd()
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, timeout=2, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # no git, or a repository on a disk that does not answer
        return None
    return found.stdout.strip() if found.returncode == 0 else None
