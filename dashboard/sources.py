"""The runs that pages look at, the most recent few of them kept open."""

from __future__ import annotations

import threading
from collections import OrderedDict

from cockpit.dashboard.listing import Listing
from cockpit.dashboard.source import Source
from cockpit.store import Store, UnreadableLog

OUT_OF_REACH = (KeyError, UnreadableLog, ConnectionError)
"""What asking for a run may raise: there is none of that name, or it cannot be read, or its database is away."""

MOST_RUNS = 6  # kept open


class Sources:
    """The runs of a store that are being looked at, the most recent few of them kept open.

    Args:
        store: The runs.

    Attributes:
        listing: All of them.
    """

    def __init__(self, store: Store):
        self.store = store
        self.listing = Listing(store)
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Source] = OrderedDict()

    def get(self, name: str) -> Source:
        """The run called ``name``, as its log is now.

        Raises:
            KeyError: If there is no such run.
            UnreadableLog: If it cannot be read.
            ConnectionError: If its database is away.
        """
        with self._lock:
            source = self._open.pop(name, None)
            if source is None:
                source = Source(self.store.open(name))
            self._open[name] = source
            while len(self._open) > MOST_RUNS:
                self._open.popitem(last=False)[1].close()
        source.refresh()
        return source
