"""Which database keeps a run's log: the one place that knows them all."""

from __future__ import annotations

from pathlib import Path

from cockpit.store import place as places
from cockpit.store.address import Address, Place, place_of
from cockpit.store.appended import Appended
from cockpit.store.database import Database
from cockpit.store.segments import segments_of
from cockpit.store.sqlite import File, file_of

FILE = file_of(0)
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
    return _rows(place, rank) if isinstance(place, Address) else file_at(place / file_of(rank))


def log_at(path: str | Place | Database, rank: int = 0) -> Database:
    """The log to be read: of one of a run's processes, or the file that is named.

    Raises:
        ValueError, ImportError: As :func:`log_of`.
    """
    if isinstance(path, Database):
        return path
    place = place_of(path)
    if isinstance(place, Address):
        return _rows(place, rank)
    return file_at(place / file_of(rank) if place.is_dir() else place)


def beside(log: Database, rank: int) -> Database:
    """The log of another process of the same run."""
    if isinstance(log, File):
        return file_at(log.path.with_name(file_of(rank)))
    from cockpit.store.postgres import Rows

    assert isinstance(log, Rows)
    return log.of_rank(rank)


def file_at(path: Path) -> File:
    """The log in a file, or in segments of one: on a network file system, or brought from there."""
    network = places.network_filesystem(path.parent.resolve(), places.mounts_text())
    return Appended(path) if network or any(True for _ in segments_of(path)) else File(path)


def is_run(path: str | Place | Database) -> bool:
    """Whether a run is meant, not the file that one of its processes writes."""
    return not isinstance(path, (str, Path)) or not isinstance(place := place_of(path), Path) or place.is_dir()


def _rows(address: Address, rank: int) -> Database:
    from cockpit.store.postgres import Rows  # its driver is an extra

    if not address.name:
        raise ValueError(f"{address} names no run: write its name behind the database's, as in {address}/mnist-sgd")
    return Rows(address, rank)
