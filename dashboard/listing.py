"""The list of runs: looked at no more often than it is cheap, and told to a page in changes."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cockpit.store import RunSummary, Store

LEAST = 1.0  # seconds between two looks
SHARE = 0.1  # of the time that looking through the whole directory may take: 10,000 runs are looked through less often


@dataclass(frozen=True)
class Changes:
    """What happened to the list since a page heard of it last.

    Args:
        revision: To be named when asking again.
        changed: Runs that are new or differ.
        gone: Names of runs that are no more.
    """

    revision: int
    changed: list[RunSummary]
    gone: list[str]


class Listing:
    """The runs of a store. Safe to use from several threads.

    Args:
        store: The runs.
        clock: Seconds, of which only differences count.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic):
        self.store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._revision = 0
        self._before_first = secrets.randbelow(2**40)  # a page may remember the revisions of an earlier process
        self._runs: dict[str, tuple[int, RunSummary]] = {}
        self._gone: dict[str, int] = {}
        self._whole_due = self._live_due = clock()

    @property
    def revision(self) -> int:
        """Grows with every change, from a number that no other process begins with; 0 as long as there were no runs."""
        return self._revision

    def look(self, *, anew: bool = False) -> None:
        """Look through the directory if that is due, or anew; in between, only at the runs that are live."""
        with self._lock:
            now = self._clock()
            if anew or now >= self._whole_due:
                self._look_at_all()
                spent = self._clock() - now
                self._live_due = now + spent + LEAST
                self._whole_due = now + spent + max(LEAST, spent / SHARE)
            elif now >= self._live_due:
                self._look_at([run.name for _, run in self._runs.values() if run.state == "running"])
                spent = self._clock() - now
                self._live_due = now + spent + max(LEAST, spent / SHARE)

    def renew(self, names: Iterable[str]) -> None:
        """Look at these runs now: something was done to them."""
        with self._lock:
            self._look_at(names)

    def runs(self) -> list[RunSummary]:
        """All runs as of the last look, the newest first."""
        with self._lock:
            return sorted((run for _, run in self._runs.values()), key=lambda run: (-run.created, run.name))

    def since(self, revision: int) -> Changes:
        """What has changed since ``revision``; everything since 0."""
        with self._lock:
            changed = [run for when, run in self._runs.values() if when > revision]
            return Changes(self._revision, changed, [name for name, when in self._gone.items() if when > revision])

    def _look_at_all(self) -> None:
        found = {run.name: run for run in self.store.runs()}
        for run in found.values():
            self._note(run)
        for name in self._runs.keys() - found.keys():
            self._forget(name)

    def _look_at(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                self._note(self.store.summary(name))
            except KeyError:
                self._forget(name)

    def _note(self, run: RunSummary) -> None:
        known = self._runs.get(run.name)
        if known is None or (known[1] is not run and known[1] != run):
            self._count()
            self._runs[run.name] = self._revision, run
            self._gone.pop(run.name, None)

    def _forget(self, name: str) -> None:
        if self._runs.pop(name, None):
            self._count()
            self._gone[name] = self._revision

    def _count(self) -> None:
        self._revision = (self._revision or self._before_first) + 1
