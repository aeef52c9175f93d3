"""Which database keeps a run's log: the one place that knows them all."""

from __future__ import annotations

from cockpit.store.address import Address, Place, place_of
from cockpit.store.database import Database
from cockpit.store.sqlite import File

FILE = "rank0.db"
"""In a run's directory, the log of its first process."""


def log_of(run: str | Place, rank: int = 0) -> Database:
    """The log that one process of a run writes.

    Args:
        run: The run's directory or address.
        rank: Number of the process.

    Raises:
        ValueError: For an address that cannot be understood, or without a name.
        ImportError: Without the database's driver.
    """
    place = place_of(run)
    return _rows(place, rank) if isinstance(place, Address) else File(place / f"rank{rank}.db")


def log_at(path: str | Place | Database) -> Database:
    """The log to be read: of a run's first process, or the file that is named.

    Raises:
        ValueError, ImportError: As :func:`log_of`.
    """
    if isinstance(path, Database):
        return path
    place = place_of(path)
    if isinstance(place, Address):
        return _rows(place, 0)
    return File(place / FILE if place.is_dir() else place)


def _rows(address: Address, rank: int) -> Database:
    from cockpit.store.postgres import Rows  # its driver is an extra

    if not address.name:
        raise ValueError(f"{address} names no run: write its name behind the database's, as in {address}/mnist-sgd")
    return Rows(address, rank)
