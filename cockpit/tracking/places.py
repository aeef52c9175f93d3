"""Where a run's log goes, and under which name."""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cockpit.store import Header, Reader, RunExists, RunIsLive, Writer
from cockpit.store.address import Place, place_of
from cockpit.tracking.job import ALONE, Job, Notice, board

DEFAULT_LOGDIR = Path("runs")
PROGRESS = "progress"
"""Document with a closed run's number of steps and its seconds, those after its last point included."""

_LAUNCHERS = {"ipykernel_launcher": "notebook", "colab_kernel_launcher": "notebook", "": "python", "-c": "python"}


@dataclass(frozen=True)
class OpenedLog:
    """A run's log, ready to be written.

    Args:
        writer: The writer.
        place: The run's directory or address.
        next_step: Number of the step that comes next.
        seconds: How long the run has lasted so far.
        job: Which process of its job this is.
    """

    writer: Writer
    place: Place
    next_step: int
    seconds: float
    job: Job = ALONE


def default_name() -> str:
    """What unnamed runs are called, without the time: the script."""
    script = Path(sys.argv[0] if sys.argv else "")
    name = script.parent.name if script.stem == "__main__" else script.stem
    return _LAUNCHERS.get(name, name)


def wanted_place(run: str | Place | None) -> Place:
    """Where a run is to be; ``runs/<script>-<time>`` where that is not said.

    Raises:
        ValueError: If ``run`` names neither a directory nor a run in a database.
        ImportError: Without the database's driver.
    """
    if run is None:
        return DEFAULT_LOGDIR / f"{default_name()}-{time.strftime('%Y%m%d-%H%M%S')}"
    wanted = place_of(run)
    if isinstance(wanted, Path):
        wanted = wanted.expanduser()
    if not wanted.name:
        raise ValueError(f"run must name a directory for the log, such as 'runs/mnist-sgd', got {str(run)!r}")
    return wanted


def fixed(place: Place) -> Place:
    """The same place where the training script changes its directory later."""
    return place.absolute() if isinstance(place, Path) else place


def described(header: Header, place: Place, job: Job) -> Header:
    """The header of a process's log of the run at a place."""
    return dataclasses.replace(header, name=place.name, job=job.to_json())


def open_log(run: str | Place | None, header: Header, resume: bool | int, job: Job = ALONE) -> OpenedLog:
    """Opens the log of a new run, or of one to be continued.

    Args:
        run: Directory or address of the run; a default directory if not given.
        header: Description of the run, without its name.
        resume: Whether to continue the run that is there, or at which step to; if there is none, it begins.
        job: Whose first process this is; the others are told of the run.

    Returns:
        The log: with a suffix to its name where that belongs to a finished run, and that is printed.

    Raises:
        ValueError: If a run without a name is to be continued, or ``run`` names neither a directory nor a run in a
            database.
        ImportError: Without the database's driver.
        RunIsLive: If the named run is being written.
        UnreadableLog: If there is a file in its place that is no log.
        OSError: If the place cannot be written.
    """
    if run is None and resume is not False:
        raise ValueError("resume=True needs the run to continue: run='runs/<name>'")
    place = wanted = wanted_place(run)
    attempt = 1
    while True:
        try:
            writer = Writer(fixed(place), described(header, place, job), resume=resume)
        except RunExists:
            pass
        except RunIsLive:
            if run is not None and place == wanted:
                raise
        else:
            break
        attempt += 1
        place = wanted.with_name(f"{wanted.name}-{attempt}")
    if place != wanted and run is not None:
        print(f"cockpit: {wanted} holds a finished run; this one is {place}", file=sys.stderr)
    log = OpenedLog(writer, place, 0, 0.0, job) if resume is False else _continued(writer, place, resume, job)
    if meeting := board(job):
        directory = str(place.absolute()) if isinstance(place, Path) else ""
        meeting.put_up(Notice(directory, place.name, log.next_step, log.seconds))
    return log


def _continued(writer: Writer, place: Place, resume: bool | int, job: Job) -> OpenedLog:
    """Where an earlier writer of the run stopped: its last words or, if it was cut short, its last point."""
    reader = Reader(writer.path)
    progress = reader.document(PROGRESS) or {}
    reader.close()
    after_last_point = 0 if writer.last_step is None else writer.last_step + 1
    return OpenedLog(
        writer,
        place,
        next_step=max(after_last_point, int(progress.get("steps", 0))) if resume is True else resume,
        seconds=max(writer.elapsed, float(progress.get("seconds", 0.0))),
        job=job,
    )
