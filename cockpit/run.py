"""A run read back as NumPy columns: ``load_run("runs/mnist-sgd")["norm_test"].values``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cockpit.layers import Layers, combine_of, owners_of
from cockpit.logged import Arrays, Quantity
from cockpit.reading import Histogram, Histogram2d, Value
from cockpit.store import Column, Event, Header, Reader, RunSummary, Store
from cockpit.store.address import Address, Place, place_of
from cockpit.store.catalog import PROCESS
from cockpit.store.schema import is_layered
from cockpit.store.segments import segments_of
from cockpit.store.sqlite import ranks_in

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """A run's log, read on demand: a live run's later points are seen by the next call.

    Args:
        reader: The log.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def reader(self) -> Reader:
        """The log itself: single series, thinned or up to a step, events, documents."""
        return self._reader

    @property
    def name(self) -> str:
        """The run's name."""
        return self._reader.name

    @property
    def header(self) -> Header:
        """Everything written at its start: model, optimizer, environment, instruments."""
        return self._reader.header

    @property
    def config(self) -> Mapping[str, Any]:
        """The user's hyperparameters."""
        return self.header.config

    @property
    def tags(self) -> tuple[str, ...]:
        """Words to find it by: those it was begun with, or that it was given since."""
        return self._reader.annotations().tags or ()

    @property
    def notes(self) -> str:
        """What somebody wrote about it since."""
        return self._reader.annotations().notes

    @property
    def state(self) -> str:
        """``running``, ``finished``, ``interrupted`` or ``crashed``: of several processes, that of all together."""
        return self._reader.state()

    @property
    def ranks(self) -> tuple[int, ...]:
        """The processes that write it, as far as they have logs. What a run is asked is answered by the first."""
        return self._reader.ranks()

    def rank(self, number: int) -> Run:
        """The same as one of the processes saw it: its own losses, gradients and samples.

        Raises:
            KeyError: If it has no log; names those that have.
        """
        return Run(self._reader.rank(number))

    def events(self) -> list[Event]:
        """What happened, in all of its processes, in the order of the seconds since each of them began."""
        told = [event for rank in self.ranks for event in self._reader.rank(rank).events()]
        return sorted(told, key=lambda event: event.time)

    def keys(self) -> list[str]:
        """Log keys, in order of appearance."""
        return list(dict.fromkeys(entry.key for entry in self._reader.series()))

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __getitem__(self, key: str) -> Quantity:
        """All points of a key.

        Raises:
            KeyError: If nothing is logged under it; names the nearest.
        """
        network: Column | None = None
        layers: Layers | None = None
        arrays: Arrays | None = None
        for entry in self._reader.series():
            if entry.key != key:
                continue
            column = self._reader.column(key, entry.kind)
            if entry.kind == "arrays":
                arrays = Arrays(key, column.steps, column.times, self._reader)
            elif is_layered(entry.kind):
                header = self.header
                declared = owners_of(header.model), combine_of(header.instruments, key)
                layers = Layers(column.layers, *_fields(column), column.edges, column.y_edges, *declared)
            elif network is None:
                network = column
        if network is None and layers is None and arrays is None:
            network = self._reader.column(key)  # raises the error that names the nearest key
        if network is None:
            nothing = np.zeros(0)
            return Quantity(key, np.zeros(0, np.int64), nothing, nothing, np.zeros(0, bool), layers, arrays=arrays)
        return Quantity(key, *_fields(network), layers, network.edges, network.y_edges, arrays)

    def at(self, step: int) -> dict[str, Value]:
        """Network-wise value of each key at its last point at or before ``step``; ``None`` where it is undefined.

        Keys without a point that early are left out.
        """
        values: dict[str, Value] = {}
        for entry in self._reader.series():
            if is_layered(entry.kind) or entry.key in values:
                continue
            column = self._reader.at(entry.key, step, entry.kind)
            if len(column):
                values[entry.key] = _value(column)
        return values

    def to_pandas(self) -> pd.DataFrame:
        """One row for each step, one column for each scalar series; undefined values are NaN.

        Raises:
            ImportError: Without pandas.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas: `pip install pandas`") from error
        columns = {}
        for entry in self._reader.series():
            if entry.kind == "scalar" and entry.key not in columns:
                column = self._reader.column(entry.key, "scalar")
                columns[entry.key] = pd.Series(column.values, index=column.steps)
        frame = pd.DataFrame(columns)
        frame.index.name = "step"
        return frame.sort_index()

    def to_parquet(self, path: str | Path) -> None:
        """Writes every point of every series to a file, a row for each value; see :mod:`cockpit.formats.parquet`.

        Raises:
            ImportError: Without pyarrow; names the extra that brings it.
        """
        from cockpit.formats.parquet import to_parquet

        to_parquet(self, path)

    def report(self, path: str | Path) -> None:
        """Writes the run as one page of HTML with its screens and a slider over its steps; see the dashboard's pages.

        Opened in a browser it needs no network and no Cockpit, and sends nothing anywhere.
        """
        from cockpit.dashboard.report import write_report

        write_report(self._reader, path)

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.state}, {len(self.keys())} keys)"


def load_run(path: str | Place) -> Run:
    """Opens a run for reading.

    Args:
        path: The run's directory, or the log of one of its processes in it; or its address in a database, see
            :class:`cockpit.Cockpit`.

    Raises:
        FileNotFoundError: If there is no run; names those beside it.
        UnreadableLog: If it is no log, cut short, or a newer version's.
        ConnectionError: If a database cannot be reached.
        ValueError: For an address that cannot be understood, or without a run's name.
        ImportError: Without the database's driver.
    """
    where = place_of(path)
    if isinstance(where, Address):
        return _load_row(where)
    if where.is_file() or 0 in ranks_in(where) or any(True for _ in segments_of(where)):
        return Run(Reader(where))
    of_process = PROCESS.fullmatch(where.as_posix())
    if of_process and 0 in ranks_in(where.parent):
        return Run(Reader(where.parent)).rank(int(of_process[2]))
    place = where if where.is_dir() else where.parent
    names = [summary.name for summary in Store(place).runs()]
    near = difflib.get_close_matches(where.name, names, 1)
    raise FileNotFoundError(_no_run(where, place, names, str(place / near[0]) if near else ""))


def _load_row(address: Address) -> Run:
    if not address.name:
        raise ValueError(f"{address} names no run: write its name behind the database's")
    beside = address.with_name("")
    store = Store(beside)
    try:
        return Run(store.open(address.name))
    except KeyError:
        names = [summary.name for summary in store.runs()]
        near = difflib.get_close_matches(address.name, names, 1)
        nearest = str(address.with_name(near[0])) if near else ""
        raise FileNotFoundError(_no_run(address, beside, names, nearest)) from None


def _no_run(where: Place, place: Place, names: Sequence[str], nearest: str) -> str:
    hint = f"did you mean {nearest}? " if nearest else ""
    there = f"In {place} there are: {', '.join(names)}" if names else f"There are no runs in {place}"
    return f"{where} holds no run; {hint}{there}"


def list_runs(logdir: str | Place = "runs") -> list[RunSummary]:
    """The runs in a directory, or in the database at an address, the newest first; broken ones too, with the reason.

    Raises:
        FileNotFoundError: If there is no such directory.
        ConnectionError: If a database cannot be reached.
        ValueError: For an address that cannot be understood, or of a single run.
        ImportError: Without the database's driver.
    """
    place = place_of(logdir)
    if isinstance(place, Path) and not place.is_dir():
        raise FileNotFoundError(f"there is no directory {place}; runs are where `Cockpit(..., run=...)` put them")
    return Store(place).runs()


def _fields(
    column: Column,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64] | NDArray[np.int64], NDArray[np.bool_]]:
    return column.steps, column.times, column.values, column.missing


def _value(column: Column) -> Value:
    if bool(column.missing[0]):
        return None
    if column.edges is None:
        return float(column.values[0])
    counts = column.values[0].astype(np.int64)
    if column.y_edges is None:
        return Histogram(counts, column.edges)
    return Histogram2d(counts, column.edges, column.y_edges)
