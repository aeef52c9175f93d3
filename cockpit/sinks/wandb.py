"""Runs in Weights & Biases."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np

from cockpit.reading import Histogram
from cockpit.run import Run
from cockpit.sinks.describing import description_of, line_of
from cockpit.sinks.rows import Row, rows_of
from cockpit.sinks.sink import Sink
from cockpit.store import Portion

STEP = "cockpit/step"
"""The axis of all charts: W&B's own steps only ever grow, and belong to whoever else logs to the run."""

_EVENTS = "cockpit/events"
_MOST_BINS = 512  # of a histogram that W&B takes


class WandB(Sink):
    """Runs in Weights & Biases.

    Needs the extra ``wandb``. If a W&B run of the script's own is active when the cockpit is made, values go there,
    under names that begin with ``cockpit/``, and it goes on when the cockpit ends. Else a W&B run of the cockpit's own
    is begun, with its name, configuration, tags and notes.

    Layer-wise values are called ``quantity/layer``; the horizontal axis is ``cockpit/step``. Of histograms with more
    than 512 bins neighbouring ones are added up. Events are the text ``cockpit/events``. Each row is a step of the W&B
    run: a script that gives ``wandb.log`` steps of its own would fall behind, and W&B drop what it logs. There,
    ``WandB(reinit="create_new")`` begins a run apart.

    Args:
        project: W&B's project, for a run of the cockpit's own.
        options: For such a run: what ``wandb.init`` takes, such as ``entity`` or ``mode="offline"``.

    Raises:
        ImportError: Without the package.
        ConnectionError: When a cockpit is made, if nobody is logged in to W&B.
    """

    package = "wandb"

    def __init__(self, project: str | None = None, **options: Any) -> None:
        self.require()
        self.title = "Weights & Biases"
        self.project, self.options = project, options

    def prepare(self) -> None:
        """See :meth:`Sink.prepare`."""
        self._mine: Any = None
        apart = self.options.get("reinit") == "create_new"
        self._theirs = None if apart else getattr(sys.modules.get("wandb"), "run", None)
        mode = self.options.get("mode") or os.environ.get("WANDB_MODE") or "online"
        if self._theirs is None and mode == "online":
            import wandb

            try:
                wandb.login(verify=False)  # it may ask for the key
            except wandb.Error as error:
                raise ConnectionError(
                    f"you are not logged in to {self.title} ({error}): `wandb login` does that, and mode='offline', or "
                    "WANDB_MODE=offline in the environment, keeps the run on this machine"
                ) from error

    def begin(self, run: Run, live: bool) -> int:
        """See :meth:`Sink.begin`. A W&B run that is resumed has what earlier attempts logged."""
        self._began, self._logged = run.header.created, 0
        self._prefix = "" if self._theirs is None else "cockpit/"
        if self._theirs is None and self._mine is None:
            self._mine = self._own(run, live)
        self._to = self._mine if self._theirs is None else self._theirs
        about = description_of(run)
        del about["tags"], about["config" if self._theirs is None else "model"]
        self._to.config.update({"cockpit": about}, allow_val_change=True)
        self._to.define_metric(STEP)
        self._to.define_metric(f"{self._prefix}*", step_metric=STEP)
        return run.reader.attempts()[-1].cursor if live and self._to.resumed else 0

    def _own(self, run: Run, live: bool) -> Any:
        import wandb

        # The output of the script is not W&B's to catch; what the machine does now says nothing of a run that is over.
        over = not live
        settings = wandb.Settings(
            console="off", x_disable_stats=over, x_disable_meta=over, x_disable_machine_info=over
        )  # fmt: skip
        ours: dict[str, Any] = {"name": run.name, "config": dict(run.config), "tags": run.tags, "settings": settings}
        ours |= {"notes": run.notes} if run.notes else {}
        try:
            return wandb.init(**{**ours, "project": self.project, "reinit": "create_new", **self.options})
        except wandb.Error as error:
            raise ConnectionError(f"{self.title} begins no run: {error}") from error

    def write(self, portion: Portion) -> int:
        """See :meth:`Sink.write`."""
        for row in rows_of(portion)[self._logged :]:
            self._to.log(self._entries(row))
            self._logged += 1  # if the next one fails, it is the first to be logged
            time.sleep(0)  # lets go of the interpreter, which training waits for
        self._logged = 0
        return portion.cursor

    def end(self, state: str) -> None:
        """See :meth:`Sink.end`. The script's own W&B run goes on."""
        if self._mine is not None:
            self._mine.finish(exit_code=0 if state in ("finished", "running") else 1)

    def _entries(self, row: Row) -> dict[str, Any]:
        entries = {f"{self._prefix}{name}": _value(value) for name, value in row.values.items()}
        if row.events:
            entries[_EVENTS] = "\n".join(map(line_of, row.events))
        if row.step is not None:
            entries[STEP] = row.step
        return entries | {"_timestamp": self._began + row.time}


def _value(value: float | Histogram) -> Any:
    if isinstance(value, float):
        return value
    import wandb

    # Where there are too many bins neighbours are added up: the edges that are left are true ones.
    starts = np.arange(0, len(value.counts), -(-len(value.counts) // _MOST_BINS))
    edges = np.append(value.edges[starts], value.edges[-1])
    return wandb.Histogram(np_histogram=(np.add.reduceat(value.counts, starts), edges))
