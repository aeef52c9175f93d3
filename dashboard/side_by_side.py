"""Several runs side by side, as the view Compare needs them: which runs, which keys, over which axis."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from cockpit.comparing.comparison import Ranking, of_training, rank
from cockpit.dashboard.overlay import Curve
from cockpit.dashboard.page import explain
from cockpit.dashboard.source import Source
from cockpit.dashboard.sources import MOST_RUNS, OUT_OF_REACH, Sources
from cockpit.drawing.timeline import Measure, Timeline, ahead_of
from cockpit.store import Column

RUNS = {
    "light": ("#0060a8", "#b34700", "#627660", "#bb01ff", "#400600", "#130060"),
    "dark": ("#62b5f0", "#f2a65a", "#adffa1", "#d06396", "#ea5f02", "#29fffb"),
}  # by a run's place among those compared; each stands out from the paper, for colour-blind readers from the others too
DASHES = ((), (9, 4), (2, 3), (10, 3, 2, 3), (18, 4), (14, 3, 2, 3, 2, 3))  # the same by pixels of line and gap
MEASURES: dict[Measure, str] = {
    "step": "Step",
    "log": "Log step",
    "samples": "Samples",
    "relative": "Time since start",
    "wall": "Time of day",
}
FIRST_KEYS = 6  # shown where none was asked for
LOSS, SAMPLES = "loss", "batch_size"
FRESH = 5.0  # seconds that a ranking of live runs is kept at least
PATIENCE = 20.0  # times what it costs


@dataclass(frozen=True)
class Compared:
    """What is compared.

    Args:
        names: All runs that were asked for, each once.
        runs: Those that can be read, by name.
        trouble: Why the others cannot, by name.
        keys: What is shown of them; ``key`` or ``key[layer]``.
        available: Keys that all of them have.
        measure: One of :data:`MEASURES`.
        scheme: ``"dark"`` or ``"light"``.
        zone: Name of the reader's time zone; empty where it is not known.
    """

    names: tuple[str, ...]
    runs: Mapping[str, Source]
    trouble: Mapping[str, str]
    keys: tuple[str, ...]
    available: tuple[str, ...]
    measure: Measure
    scheme: str
    zone: str = ""

    @classmethod
    def of(cls, sources: Sources, shown: Mapping[str, Any]) -> Compared:
        """From what the page shows: ``more`` holds ``runs``, ``key`` and ``over`` of the address.

        Where no run is named, the two newest are compared.
        """
        more = shown.get("more") or {}
        wanted = more.get("runs") or shown.get("run")
        names = split(wanted, lambda name: _known(sources, name))[:MOST_RUNS] if wanted else newest_pair(sources)
        runs, trouble = {}, {}
        for name in names:
            try:
                runs[name] = sources.get(name)
            except OUT_OF_REACH as error:
                trouble[name] = explain(error)
        available = shared_keys(list(runs.values()))
        asked = split(more.get("key") or "", available.__contains__)
        keys = tuple(key for key in asked if key in available) or available[:FIRST_KEYS]
        measure: Measure = next((known for known in MEASURES if known == more.get("over")), "step")
        scheme = "dark" if shown.get("scheme") == "dark" else "light"
        return cls(names, runs, trouble, keys, available, measure, scheme, str(shown.get("zone") or ""))

    def colour(self, name: str) -> str:
        """The run's colour, the same everywhere in the view."""
        return RUNS[self.scheme][self.names.index(name)]

    def dash(self, name: str) -> str:
        """How the run's lines are dashed, the same everywhere in the view."""
        return ",".join(f"{length}px" for length in DASHES[self.names.index(name)]) or "solid"

    def sample(self, name: str) -> dict[str, str]:
        """The style of a sample of the run's line."""
        colour, places = self.colour(name), np.cumsum((0, *DASHES[self.names.index(name)])).tolist()
        if len(places) == 1:
            return {"backgroundColor": colour}
        stretches = itertools.pairwise(places)
        stops = [f"{(colour, 'transparent')[at % 2]} {start}px {end}px" for at, (start, end) in enumerate(stretches)]
        return {"backgroundImage": f"repeating-linear-gradient(90deg, {', '.join(stops)})"}

    def version(self) -> list[Any]:
        """Differs when anything that is drawn does; JSON."""
        return [[name, source.cursor, source.state] for name, source in self.runs.items()]

    def across(self) -> Timeline:
        """The horizontal axis, which reaches over all runs."""
        began = min((source.header.created for source in self.runs.values()), default=0.0)
        of_day = self.measure == "wall"
        ends = (_duration(source) + of_day * (source.header.created - began) for source in self.runs.values())
        ahead = ahead_of(self.zone, began)
        return Timeline(self.measure, created=began, longest=max(ends, default=0.0), ahead=ahead)

    def curves(self, key: str) -> list[Curve]:
        """The runs' readings of ``key``; a run that does not know where they stand on the axis is left out."""
        found, across = [], self.across()
        for name, source in self.runs.items():
            column, sizes = column_of(source, key), _sizes(source) if self.measure == "samples" else None
            if column is not None and len(column.steps) and (sizes is not None or self.measure != "samples"):
                own = replace(across, created=source.header.created, sizes=sizes)
                found.append(
                    Curve(name, self.colour(name), column, own.of(column), source.happened.ticks, own, self.dash(name))
                )
        return found

    def log(self, key: str) -> bool:
        """Whether the run that declares a panel for the key draws it on a logarithmic axis."""
        bare = key.partition("[")[0]
        panels = [panel for source in self.runs.values() for panel in source.header.panels.values()]
        return any(panel.yscale == "log" and panel.kind == "lines" and bare in panel.keys for panel in panels)


def split(text: str, known: Callable[[str], bool]) -> tuple[str, ...]:
    """Names with ``|`` between them, each once; a name with a ``|`` in it is found where its parts are not known."""
    parts, found = text.split("|"), []
    while parts:
        lengths = [1, *range(2, len(parts) + 1)] if known(parts[0]) else range(len(parts), 0, -1)
        length = next((length for length in lengths if known("|".join(parts[:length]))), 1)
        found.append("|".join(parts[:length]))
        parts = parts[length:]
    return tuple(dict.fromkeys(name for name in found if name))


def newest_pair(sources: Sources) -> tuple[str, ...]:
    """The two runs that began last, the newest first; empty where there are fewer that can be read."""
    names = [run.name for run in sources.listing.runs() if run.state != "unreadable"]
    return tuple(names[:2]) if len(names) > 1 else ()


def _known(sources: Sources, name: str) -> bool:
    try:
        sources.get(name)
    except OUT_OF_REACH:
        return False
    return True


def shared_keys(sources: Sequence[Source]) -> tuple[str, ...]:
    """What all runs have as numbers, as the first of them orders it: the loss, the user's metrics, what instruments
    tell of the network, their further numbers, and ``key[layer]``.
    """
    if not sources:
        return ()
    first = sources[0]
    scalars = [key for (key, kind), entry in first.series.items() if kind == "scalar" and entry.defined]
    user = set(first.keys("user"))
    scalars.sort(key=lambda key: (key != LOSS, key not in user, not of_training(key), "." in key))
    others = [{*_scalar_keys(source), *_layer_keys(source)} for source in sources[1:]]
    return tuple(key for key in (*scalars, *_layer_keys(first)) if all(key in found for found in others))


def _scalar_keys(source: Source) -> list[str]:
    return [key for key, kind in source.series if kind == "scalar"]


def _layer_keys(source: Source) -> list[str]:
    keys = [key for key, kind in source.series if kind == "layers"]
    return [f"{key}[{layer}]" for key in keys for layer in _layers_of(source, key)]


def _layers_of(source: Source, key: str) -> list[str]:
    column = source.glimpse(key, "layers")
    if column is None or not len(column):
        return []
    return [layer for layer, missing in zip(column.layers, column.missing[0].tolist(), strict=True) if not missing]


def column_of(source: Source, key: str) -> Column | None:
    """The points of ``key`` or ``key[layer]``."""
    bare, bracket, layer = key.partition("[")
    return source.layer(bare, layer.removesuffix("]")) if bracket else source.scalars(key)


def _duration(source: Source) -> float:
    column = source.scalars(LOSS)
    return float(column.times.max(initial=0.0)) if column is not None else 0.0


def _sizes(source: Source) -> Column | None:
    """The run's batch sizes; ``None`` where none is known."""
    sizes = source.scalars(SAMPLES)
    return sizes if sizes is not None and bool((~sizes.missing & np.isfinite(sizes.values)).any()) else None


_Identity: TypeAlias = "tuple[tuple[str, float], ...]"


def _identity(compared: Compared, pair: tuple[str, str]) -> _Identity:
    """Two runs, told from others that had their names before."""
    return tuple((name, compared.runs[name].header.created) for name in pair)


class Rankings:
    """First divergences of pairs of runs, found at most as often as their cost allows."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Identity, tuple[int, list[int], float, Ranking]] = OrderedDict()
        self._serial = itertools.count(1)
        self._busy = threading.Lock()

    def known(self, compared: Compared, pair: tuple[str, str]) -> tuple[int, Ranking] | None:
        """The last ranking of a pair and its number, as it is; not that of other runs which had their names before."""
        found = self._known.get(_identity(compared, pair))
        return None if found is None else (found[0], found[3])

    def refresh(self, compared: Compared, pair: tuple[str, str]) -> None:
        """Rank a pair anew where one of its runs has grown and some time has passed; not while another is ranked."""
        a, b = (compared.runs[name] for name in pair)
        version, identity = [a.cursor, b.cursor], _identity(compared, pair)
        found = self._known.get(identity)
        if found is not None and (found[1] == version or time.monotonic() < found[2]):
            return
        if not self._busy.acquire(blocking=False):
            return  # the page asks again with its next look
        try:
            began = time.monotonic()
            ranking = rank(a.reader, b.reader)
            now = time.monotonic()
            self._known[identity] = next(self._serial), version, now + max(FRESH, PATIENCE * (now - began)), ranking
            while len(self._known) > MOST_RUNS:
                self._known.popitem(last=False)
        finally:
            self._busy.release()
