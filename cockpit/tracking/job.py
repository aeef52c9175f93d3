"""Which process of a training job this one is, and what the first process tells the others of their run.

Nothing here waits for all processes at once: a cockpit that is made in one of them only must not hold up the training.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Any

import torch

PATIENCE = 60.0
"""Seconds that a process waits for the first one's cockpit."""
PAUSE = 0.05
"""Seconds between two looks."""

# Together they are the same in all processes of a job, and no other's: torchrun's, and SLURM's.
_NAMES = (
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT"),
    *("SLURM_JOB_ID", "SLURM_STEP_ID"),
)


@dataclass(frozen=True)
class Job:
    """The processes that train one model together, as one of them sees it.

    Args:
        rank: Its number; 0 is the first.
        size: How many they are.
        id: What all of them know it by; empty where the environment does not tell.
    """

    rank: int = 0
    size: int = 1
    id: str = ""

    @property
    def leads(self) -> bool:
        """Whether this is the first process, which names the run and speaks to the user."""
        return self.rank == 0

    @property
    def part(self) -> float:
        """Part of the budget that is this process's.

        They wait for one another in every step, so what slows down one slows down all, and they read at different
        steps: their parts add up to 1. Half of it is the first one's, which is looked at most.
        """
        if self.size == 1:
            return 1.0
        return 0.5 if self.leads else 0.5 / (self.size - 1)

    def to_json(self) -> dict[str, Any]:
        """For the header of the log."""
        return {"rank": self.rank, "size": self.size, "id": self.id}


ALONE = Job()
"""A job of one process."""


@dataclass(frozen=True)
class Notice:
    """What the first process tells the others of a run that it has opened.

    Args:
        directory: Where it is, as a path that starts at the root; empty for a run in a database.
        name: The run's.
        next_step: Number of the step that comes next.
        seconds: How long the run has lasted so far.
    """

    directory: str
    name: str
    next_step: int
    seconds: float


def this_job() -> Job:
    """As ``torch.distributed`` says or, before it is initialised, ``RANK`` and ``WORLD_SIZE`` as torchrun sets them."""
    if _is_initialised():
        return Job(torch.distributed.get_rank(), torch.distributed.get_world_size(), _id())
    rank, size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    if not rank.isdecimal():
        return Job()
    return Job(int(rank), max(int(size) if size.isdecimal() else 1, int(rank) + 1), _id())


class Board:
    """Where the first process puts notices up, and the others find them: the store of ``torch.distributed``.

    The ``n``-th cockpit of each process belongs to the ``n``-th of the first; the store does the counting.

    Args:
        rank: This process.
    """

    def __init__(self, rank: int) -> None:
        self._store = torch.distributed.distributed_c10d._get_default_store()
        number = self._store.add(f"cockpit/made/{rank}", 1)
        self._key = f"cockpit/run/{number}"

    def put_up(self, notice: Notice) -> None:
        """For those who look now or later."""
        self._store.set(self._key, json.dumps(vars(notice)))

    def read(self, patience: float) -> Notice | None:
        """What stands there; ``None`` where that is nothing for so many seconds."""
        deadline = time.monotonic() + patience
        while not self._store.check([self._key]):
            if time.monotonic() > deadline:
                return None
            time.sleep(PAUSE)
        return Notice(**json.loads(self._store.get(self._key)))


def board(job: Job) -> Board | None:
    """Where the processes of a job meet; ``None`` where there is one alone, or nothing connects them yet."""
    return Board(job.rank) if job.size > 1 and _is_initialised() else None


def _is_initialised() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _id() -> str:
    known = [os.environ.get(name, "") for name in _NAMES]
    return "/".join(known) if any(known) else ""
