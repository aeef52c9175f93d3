"""Two runs beside each other: what was set differently, and from which step on their readings stay apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpit.comparing.divergence import Points, Verdict, first_divergence
from cockpit.store import Column, Header, Reader, UnreadableLog

MOST_READ = 2000  # points of a layer-wise quantity or histogram, evenly over the steps that both runs have
QUANTILES = (0.05, 0.5, 0.95)  # by which a histogram is compared
CERTAIN = 1e-6  # chance below which there is no doubt
FALSE = 0.05  # of the divergences that are listed
SETTINGS = ("learning_rate", "batch_size")  # keys of what is set and not measured
OF_THE_MACHINE = ("time",)  # keys that tell of the computer and not of the training
OF_THE_COCKPIT = "cockpit"  # and what it has logged of itself
SECTIONS = ("config", "optimizer", "instruments", "model", "environment")


@dataclass(frozen=True)
class Setting:
    """One thing that was set before the first step.

    Args:
        section: One of :data:`SECTIONS`.
        name: What it is called there, ``group 0 lr``.
        values: By run, as text; ``None`` for a run that does not have it.
    """

    section: str
    name: str
    values: tuple[str | None, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs do not agree on it."""
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class Finding:
    """A quantity in which two runs were compared.

    Args:
        key: Log key.
        layer: The layer; empty for the network.
        verdict: Since when, and how far.
    """

    key: str
    layer: str
    verdict: Verdict

    @property
    def parted(self) -> bool:
        """Whether they do."""
        return self.verdict.step is not None

    @property
    def name(self) -> str:
        """What it is that differs, in words."""
        return f"{self.key} (fluctuation)" if self.verdict.spread else self.key

    @property
    def odds(self) -> str:
        """How likely chance alone takes two runs as far apart, about, in words: ``1 in 2,300``, ``no``."""
        chance = self.verdict.chance
        if chance < CERTAIN:
            return "no"
        return f"1 in {float(f'{1 / chance:.2g}'):,.0f}"

    @property
    def step(self) -> int:
        """The first step from which on the runs stay apart."""
        assert self.verdict.step is not None
        return self.verdict.step


@dataclass(frozen=True)
class Ranking:
    """What can be told of two runs' readings.

    Args:
        apart: Quantities and layers in which they stay apart, the earliest first; of several with the same step, the
            one that goes furthest.
        together: How many quantities and layers are not apart beyond noise.
        untold: Those with too few readings that both runs share, or that cannot be read.
        only: Keys that only the first and only the second run has.
        until: The last step that was compared; ``None`` where nothing was.
    """

    apart: tuple[Finding, ...]
    together: int
    untold: tuple[str, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    until: int | None


def settings_of(headers: Sequence[Header]) -> list[Setting]:
    """What the runs were set to, that in which they differ first; else in the order of the headers."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for index, header in enumerate(headers):
        for section in SECTIONS:
            for name, value in _flat(_described(header, section)):
                found.setdefault((section, name), {})[index] = value
    settings = [
        Setting(section, name, tuple(values.get(index) for index in range(len(headers))))
        for (section, name), values in found.items()
    ]
    return sorted(settings, key=lambda setting: (not setting.differs, SECTIONS.index(setting.section)))


def rank(a: Reader, b: Reader) -> Ranking:
    """Quantities and layers by the step from which on two runs stay apart, see :mod:`cockpit.comparing.divergence`.

    Scalars and layer-wise scalars are compared as they are, histograms by :data:`QUANTILES` of what they count, the
    earliest of which counts. What tells of the machine is left out. Among so many some would be apart by chance:
    expected are :data:`FALSE` of those that are listed at most (Benjamini and Hochberg, *Controlling the false
    discovery rate*, Journal of the Royal Statistical Society B 57, 1995).
    """
    found, untold, until = [], [], 0
    for key, layer, candidates in _shared(a, b):
        exact = key in SETTINGS
        told = [verdict for pair in candidates if (verdict := first_divergence(*pair, exact=exact)) is not None]
        if not told:
            untold.append(f"{key} · {layer}" if layer else key)
            continue
        until = max(until, *(verdict.until for verdict in told))
        verdicts = [replace(verdict, chance=min(1.0, len(told) * verdict.chance)) for verdict in told]
        found.append(min((Finding(key, layer, verdict) for verdict in verdicts), key=_order))
    limit = _limit([finding.verdict.chance if finding.parted else 1.0 for finding in found])
    apart = [finding for finding in found if finding.parted and finding.verdict.chance <= limit]
    keys = [{entry.key for entry in reader.series() if of_training(entry.key)} for reader in (a, b)]
    only = tuple(sorted(keys[0] - keys[1])), tuple(sorted(keys[1] - keys[0]))
    together = len(found) - len(apart)
    return Ranking(tuple(sorted(apart, key=_order)), together, tuple(untold), only, until if found else None)


def _limit(chances: Sequence[float]) -> float:
    """The chance up to which differences are listed, so that :data:`FALSE` of them at most are expected to be none."""
    ordered = np.sort(chances)
    steps = FALSE * np.arange(1, len(ordered) + 1) / max(1, len(ordered))
    below = np.flatnonzero(ordered <= steps)
    return float(ordered[below[-1]]) if len(below) else -1.0


def _order(finding: Finding) -> tuple[bool, int, float, bool, str, str]:
    verdict = finding.verdict
    return not finding.parted, verdict.step or 0, -verdict.noises, finding.layer != "", finding.key, finding.layer


def of_training(key: str) -> bool:
    """Whether a key tells of the training, and not of the machine or of the cockpit itself."""
    return key not in OF_THE_MACHINE and key.split(".", 1)[0] != OF_THE_COCKPIT


def _shared(a: Reader, b: Reader) -> Iterator[tuple[str, str, list[tuple[Points, Points]]]]:
    """Key, layer and both runs' readings of all that both have; of a histogram, those of each quantile."""
    others = {(entry.key, entry.kind): entry for entry in b.series()}
    for entry in a.series():
        other = others.get((entry.key, entry.kind))
        if other is None or not of_training(entry.key) or entry.kind not in _READINGS:
            continue
        steps = max(entry.first_step, other.first_step), min(entry.last_step, other.last_step)
        most = None if entry.kind == "scalar" else MOST_READ
        try:
            columns = [reader.column(entry.key, entry.kind, steps=steps, max_points=most) for reader in (a, b)]
        except UnreadableLog:  # damaged in one place; the others are compared all the same
            yield entry.key, "", []
            continue
        found = [_READINGS[entry.kind](column) for column in columns]
        for layer in found[0]:
            if layer in found[1]:
                yield entry.key, layer, list(zip(found[0][layer], found[1][layer], strict=True))


def _scalar(column: Column) -> dict[str, list[Points]]:
    return {"": [_points(column.steps, column.values, column.missing)]}


def _layers(column: Column) -> dict[str, list[Points]]:
    return {
        name: [_points(column.steps, column.values[:, at], column.missing[:, at])]
        for at, name in enumerate(column.layers)
    }


def _histogram(column: Column) -> dict[str, list[Points]]:
    assert column.edges is not None
    return {"": _by_quantiles(column.steps, column.values, column.edges)}


def _layer_histograms(column: Column) -> dict[str, list[Points]]:
    assert column.edges is not None
    edges = column.edges
    return {
        name: _by_quantiles(column.steps, column.values[:, at], edges if edges.ndim == 1 else edges[:, at])
        for at, name in enumerate(column.layers)
    }


_READINGS = {"scalar": _scalar, "layers": _layers, "histogram": _histogram, "layer_histograms": _layer_histograms}


def _points(steps: NDArray[np.int64], values: NDArray[Any], missing: NDArray[np.bool_]) -> Points:
    return Points(steps[~missing], values[~missing].astype(np.float64))


def _by_quantiles(steps: NDArray[np.int64], counts: NDArray[Any], edges: NDArray[np.float64]) -> list[Points]:
    found = quantiles(counts, edges)
    return [_points(steps, values, np.isnan(values)) for values in found]


def quantiles(counts: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of what histograms count, as if it were spread evenly within each bin.

    Args:
        counts: Shape ``[n, bins]``.
        edges: Bin boundaries: ``[bins + 1]``, or ``[n, bins + 1]``. An outer bin that has no end counts as its
            other boundary.

    Returns:
        :data:`QUANTILES` in turn, shape ``[3, n]``; NaN where a histogram is empty.
    """
    edges = np.broadcast_to(edges, (len(counts), counts.shape[1] + 1))
    below = np.cumsum(counts, axis=1, dtype=np.float64)
    rows = np.arange(len(counts))
    found = np.full((len(QUANTILES), len(counts)), np.nan)
    for index, quantile in enumerate(QUANTILES):
        aim = quantile * below[:, -1]
        at = np.argmax(below >= aim[:, None], axis=1)
        low, high = edges[rows, at], edges[rows, at + 1]
        low, high = np.where(np.isfinite(low), low, high), np.where(np.isfinite(high), high, low)
        inside = counts[rows, at].astype(np.float64)
        full = inside > 0
        part = np.clip((aim - below[rows, at] + inside) / np.where(full, inside, 1), 0, 1)
        found[index, full] = (low + part * (high - low))[full]
    return found


def _described(header: Header, section: str) -> Any:
    """A section of the header, with parameters by their names."""
    described = getattr(header, section)
    if section != "model":
        return described
    parameters = {
        str(entry.get("name")): {
            name: value for name, value in entry.items() if name not in ("name", "numel", "module")
        }
        for entry in described.get("parameters", ())
    }
    return {**described, "parameters": parameters} if parameters else described


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf with the way to it; short lists, such as shapes, are leaves."""
    nested = isinstance(value, list | tuple) and any(isinstance(entry, Mapping) for entry in value)
    if nested:
        value = {str(index): entry for index, entry in enumerate(value)} if len(value) > 1 else value[0]
    if isinstance(value, Mapping):
        for part, entry in value.items():
            yield from _flat(entry, f"{name} {part}".strip())
    elif name:
        yield name, value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
