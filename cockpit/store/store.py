"""All runs of a place, whichever database keeps them."""

from __future__ import annotations

from collections.abc import Iterable

from cockpit.store.address import Address, Place, place_of
from cockpit.store.catalog import Directory, RunSummary
from cockpit.store.reader import Reader


class Store:
    """The runs below a directory, or in a database.

    Args:
        logdir: The directory, which may be made later; or the address of a database.

    Attributes:
        logdir: What was given, as a path or an address.

    Raises:
        ValueError: For an address that cannot be understood, or of a single run.
        ImportError: Without the database's driver.
    """

    def __init__(self, logdir: str | Place) -> None:
        self.logdir = place_of(logdir)
        if isinstance(self.logdir, Address):
            from cockpit.store.shelf import Shelf  # its driver is an extra

            if self.logdir.name:
                raise ValueError(f"{self.logdir} is one run; the runs beside it are in {self.logdir.with_name('')}")
            self._runs: Directory | Shelf = Shelf(self.logdir)
        else:
            self._runs = Directory(self.logdir)

    def runs(self) -> list[RunSummary]:
        """All runs, the newest first. Broken ones are listed with the reason.

        Raises:
            ConnectionError: If the database cannot be reached.
        """
        return self._runs.runs()

    def summary(self, name: str) -> RunSummary:
        """One line of :meth:`runs`, as the run is now.

        Raises:
            KeyError: As :meth:`open`.
            ConnectionError: As :meth:`runs`.
        """
        return self._runs.summary(name)

    def annotate(self, name: str, *, tags: Iterable[str] | None = None, notes: str | None = None) -> None:
        """Gives a run other tags or notes. Its log stays as it is.

        Args:
            name: The run.
            tags: In place of those it has; by default these stay.
            notes: In place of those it has; by default these stay.

        Raises:
            KeyError: As :meth:`open`.
            TypeError: If a tag is no text.
            OSError: If the run's directory cannot be written, or the database not be reached.
        """
        self._runs.annotate(name, tags=tags, notes=notes)

    def delete(self, name: str) -> None:
        """Deletes the log of a run, its ranks' and its notes; what else lies in its directory stays there.

        Raises:
            KeyError: As :meth:`open`.
            RunIsLive: If it is being written, or may be.
            PermissionError: If a link leads out of the directory to it.
            OSError: If a file cannot be deleted, or the database not be reached.
        """
        self._runs.delete(name)

    def open(self, name: str) -> Reader:
        """A run by its name in :meth:`runs`.

        Raises:
            KeyError: If there is no such run, or the name leads out of the directory.
            UnreadableLog: If it cannot be read, in words.
            ConnectionError: As :meth:`runs`.
        """
        return self._runs.open(name)
