"""What training has handed over and the file does not hold yet: bounded, and cheap to put into."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

_MEMORY = 256 * 1024 * 1024
"""Bytes that may wait; a single item that is larger waits alone."""


class Item(NamedTuple):
    """A method of the encoder and what to call it with, later and on another thread."""

    write: Callable[..., None]
    arguments: tuple[Any, ...]
    weight: int


class Inbox:
    """A queue between training and the thread that writes. Full: what comes next is dropped and counted.

    Args:
        capacity: Items it holds, those that are being written included.

    Attributes:
        dropped: Items it did not take.
        wake: Set when the thread should look before its interval is over.
        disabled: Nothing is taken any more, and nothing counted.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.dropped = 0
        self.wake = threading.Event()
        self.disabled = False
        self._items: deque[Item | threading.Event] = deque()
        self._taken: list[Item | threading.Event] = []
        self._kept: deque[tuple[str, Iterator[tuple[int, bytes]]]] = deque()
        self._weight = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items) + len(self._taken)

    def put(self, write: Callable[..., None], *arguments: Any, weight: int = 0) -> None:
        """Takes an item, or counts it.

        Args:
            write: Method of the encoder.
            arguments: What to call it with.
            weight: Memory it keeps, in bytes, roughly.
        """
        if self.disabled:  # asked first: in a forked child the lock may be held by a thread that is not there
            return
        waiting = len(self)
        with self._lock:
            if waiting >= self.capacity or (self._weight and self._weight + weight > _MEMORY):
                self.dropped += 1
                return
            self._weight += weight
        self._items.append(Item(write, arguments, weight))
        if 2 * waiting > self.capacity:
            self.wake.set()

    def keep(self, name: str, pieces: Iterable[bytes]) -> None:
        """Takes what is too large to wait: a piece is asked for when there is time to write it."""
        if not self.disabled:
            self._kept.append((name, enumerate(pieces)))

    @property
    def keeping(self) -> bool:
        """Whether there may be pieces to come."""
        return bool(self._kept)

    def piece(self) -> tuple[str, int, bytes] | None:
        """The next piece: name, number and data. Raises what making it raises, and then gives no more of that name."""
        while self._kept:
            name, pieces = self._kept[0]
            try:
                for number, data in pieces:
                    return name, number, data
            except Exception:
                self._kept.popleft()
                raise
            self._kept.popleft()
        return None

    def mark(self) -> threading.Event:
        """An event that is set when everything put before it has been written."""
        written = threading.Event()
        self._items.append(written)
        self.wake.set()
        return written

    def take(self, limit: int) -> list[Item]:
        """The oldest items, at most ``limit``. They count as waiting until :meth:`written`."""
        while self._items and len(self._taken) < limit:
            self._taken.append(self._items.popleft())
        return [item for item in self._taken if isinstance(item, Item)]

    def written(self) -> None:
        """What was taken is in the file."""
        marks = self._clear()
        for mark in marks:
            mark.set()

    def lost(self) -> None:
        """What was taken will never be in the file."""
        with self._lock:
            self.dropped += sum(isinstance(item, Item) for item in self._taken)
        self._clear()

    def _clear(self) -> list[threading.Event]:
        with self._lock:
            self._weight -= sum(item.weight for item in self._taken if isinstance(item, Item))
        marks = [item for item in self._taken if isinstance(item, threading.Event)]
        self._taken = []
        return marks
