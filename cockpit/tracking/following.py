"""How the other processes of a job come to write the run that the first one has opened."""

from __future__ import annotations

import glob
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from cockpit.store import Header, Reader, UnreadableLog, Writer
from cockpit.store.address import Place
from cockpit.tracking import job as jobs
from cockpit.tracking.job import Job, Notice, board
from cockpit.tracking.places import DEFAULT_LOGDIR, PROGRESS, OpenedLog, default_name, described, fixed, wanted_place

_RECENT = 20  # unnamed runs that may be the job's


def follow(run: str | Place | None, header: Header, resume: bool | int, job: Job) -> OpenedLog | None:
    """Opens the log of a process that is not the first, in the run that the first one has opened.

    It is told of that run by way of ``torch.distributed``. Where that is not initialised, it looks for the log of a
    living first process with the job's id, where that would have put it.

    Args:
        run, header, resume: As in :func:`~cockpit.tracking.places.open_log`.
        job: Which process this is.

    Returns:
        The log; ``None`` where the first process opens none within :data:`~cockpit.tracking.job.PATIENCE` seconds.

    Raises:
        RunIsLive: If another process of this number writes the run.
        RunExists: If a process of this number has written it before, and it is not to be resumed.
        ValueError, ImportError, UnreadableLog, OSError: As ``open_log``.
    """
    meeting = board(job)
    if meeting is None:
        found = _looked_for(run, resume, job)
    else:
        notice = meeting.read(jobs.PATIENCE)
        found = None if notice is None else (_place(run, notice), notice)
    if found is None:
        return None
    place, notice = found
    going_on = resume if resume is False else notice.next_step
    writer = Writer(fixed(place), described(header, place, job), resume=going_on, rank=job.rank)
    return OpenedLog(writer, place, notice.next_step, notice.seconds, job)


def _place(run: str | Place | None, notice: Notice) -> Place:
    """Where the first process says, if that can be seen from here; else where this one would have put it."""
    own = wanted_place(run)
    if isinstance(own, Path) and Path(notice.directory or notice.name).is_dir():
        return Path(notice.directory)
    return own.with_name(notice.name)


def _looked_for(run: str | Place | None, resume: bool | int, job: Job) -> tuple[Place, Notice] | None:
    deadline = time.monotonic() + jobs.PATIENCE
    while True:
        for place in _candidates(run):
            notice = _told_by(place, resume, job)
            if notice is not None:
                return place, notice
        if time.monotonic() > deadline:
            return None
        time.sleep(jobs.PAUSE)


def _candidates(run: str | Place | None) -> Iterator[Place]:
    """Where the first process may have put its run: under the name wanted, or with a suffix."""
    if run is None:
        yield from sorted(DEFAULT_LOGDIR.glob(f"{glob.escape(default_name())}-*"), reverse=True)[:_RECENT]
        return
    wanted = wanted_place(run)
    for number in itertools.count(1):
        place = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if _leading(place) is None:
            return
        yield place


def _leading(place: Place) -> Reader | None:
    """The first process's log; ``None`` if there is none that can be read."""
    try:
        return Reader(place, rank=0)
    except UnreadableLog:
        return None


def _told_by(place: Place, resume: bool | int, job: Job) -> Notice | None:
    """What the log of a first process tells, if that is this job's and lives."""
    reader = _leading(place)
    if reader is None:
        return None
    try:
        of = reader.header.job
        if (of.get("id"), of.get("size")) != (job.id, job.size) or reader.state() != "running":
            return None
        progress = reader.document(PROGRESS) or {}
        attempts = reader.attempts()
        seconds = float(progress.get("seconds", 0.0)) if resume is not False else 0.0
        return Notice("", reader.name, _next_step(resume, attempts[-1].first_step, len(attempts), progress), seconds)
    except UnreadableLog:  # it has been deleted in the meantime
        return None
    finally:
        reader.close()


def _next_step(resume: bool | int, first_step: int | None, attempts: int, progress: dict[str, float]) -> int:
    if resume is not True:
        return int(resume)
    return 0 if attempts == 1 else max(first_step or 0, int(progress.get("steps", 0)))
