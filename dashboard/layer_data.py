"""The layer-wise quantities of a run, by module: those that its panels declare as columns, and all others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.folds import Of
from cockpit.dashboard.source import MOST_READINGS, Source
from cockpit.drawing.cells import columns_for
from cockpit.drawing.columns import of_layers, rows_of
from cockpit.drawing.histories import Histories
from cockpit.drawing.layer_table import Row, middles
from cockpit.drawing.quantiles import quantiles
from cockpit.drawing.stretches import Stretched, Stretches
from cockpit.forward_order import in_depth_order
from cockpit.layers import Combine, Layers, Owner, combine_of, owners_of
from cockpit.panel import LayerColumn
from cockpit.store import Column

WHOLE = "(model)"  # what owns the parameters that stand in no module of their own
NUMBERS, HISTOGRAMS = "layers", "layer_histograms"


@dataclass(frozen=True)
class Quantity:
    """A column of the table, at one step or at several.

    Args:
        column: What it is.
        steps: Shape ``[n]``.
        times: Seconds since the run began. Shape ``[n]``.
        values: By module, in depth order; NaN where missing. Shape ``[n, L]``.
        missing: Shape ``[n, L]``.
    """

    column: LayerColumn
    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    missing: NDArray[np.bool_]


def id_of(column: LayerColumn) -> str:
    """The column's name in the address."""
    return f"{column.key}{f'/{column.over}' if column.over else ''}{':share' if column.share else ''}"


class LayerData:
    """What a run's log says of its layers.

    Args:
        source: The run.

    Attributes:
        modules: Names of all modules that something is known of, in depth order.
        owners: Those of them that the model knows, by name.
        parameters: Whom every parameter, and every module, belongs to.
    """

    def __init__(self, source: Source):
        self.source = source
        self.parameters = owners_of(source.header.model)
        modules = {name or WHOLE: owner for name, owner in self.parameters.items() if not owner.parameter}
        self.owners = modules
        self._kinds: dict[str, str] = {}
        found = [tuple(name or WHOLE for name in source.called), tuple(modules)]
        for key, kind in source.series:
            column = source.glimpse(key, kind) if kind in (NUMBERS, HISTOGRAMS) else None
            own = (
                ()
                if column is None
                else tuple(dict.fromkeys(module_of(name, self.parameters) for name in column.layers))
            )
            # What is logged of instruments, or of the optimizer's groups, one by one, is not about layers.
            if own and self._is_about_layers(own):
                self._kinds[key] = kind
                found.append(own)
        self.modules = tuple(in_depth_order(found))

    def _is_about_layers(self, names: Sequence[str]) -> bool:
        """Whether these are layers: the model knows some of them; where it knows none, they are no instruments."""
        return (
            not self.owners.keys().isdisjoint(names)
            if self.owners
            else not set(names) <= self.source.header.instruments.keys()
        )

    def columns(self) -> tuple[dict[str, LayerColumn], dict[str, LayerColumn]]:
        """By id: the columns that the panels declare, and one for each layer-wise number that none of them shows."""
        panels = self.source.header.panels
        columns = sorted((column for panel in panels.values() for column in panel.layers), key=lambda one: one.place)
        declared = {
            id_of(column): column
            for column in columns
            if column.key in self._kinds and (not column.over or column.over in self._kinds)
        }
        shown = {column.key for column in declared.values() if not (column.over or column.share)}
        others = {}
        for key, kind in self._kinds.items():
            if kind == NUMBERS and key not in shown:
                panel = panels.get(key.split(".", 1)[0])
                scale = panel.yscale if panel is not None and key in (panel.keys or (key,)) else "linear"
                how = panel.how_to_read if panel is not None else ""
                others[key] = LayerColumn(key, key, scale=scale, how_to_read=how)
        return declared, others

    def keys(self, kind: str) -> list[str]:
        """Log keys of the layer-wise series of a kind, ``layers`` or ``layer_histograms``."""
        return [key for key, own in self._kinds.items() if own == kind]

    def logarithmic(self) -> dict[str, bool]:
        """By key, whether its scale is logarithmic: as its column says, or the one that divides it or divides by it."""
        declared, others = self.columns()
        scales: dict[str, bool] = {}
        for column in (*declared.values(), *others.values()):
            for key in (column.key, column.over):
                scales[key] = scales.get(key, False) or column.scale == "log"
        return scales

    def numbers(self, key: str, module: str) -> dict[str, Column]:
        """What is logged under ``key`` of each of a module's parameters: scalars, by name within the module.

        Where it is logged of the module itself, the name is empty. Nothing where there are no such numbers.
        """
        if self._kinds.get(key) != NUMBERS:
            return {}
        curves = self.source.curves(key, f"of {module}", self._is_of(module))
        return {self._within(name): curves[name] for name in self._ordered(curves)}

    def histograms(self, key: str, module: str) -> dict[str, Column]:
        """The same of histograms: columns of one layer, of each stretch of the run the reading that stands out most."""
        if self._kinds.get(key) != HISTOGRAMS:
            return {}
        wanted = self._is_of(module)
        begin = lambda: Of(Histories(wanted, MOST_READINGS), itemgetter(key))  # noqa: E731
        fold = self.source.folded(f"of {module}", [(key, HISTOGRAMS)], begin)
        found = None if fold is None else fold.made.column
        if found is None:
            return {}
        return {self._within(name): of_layers(found, [name]) for name in self._ordered(found.layers)}

    def has_histograms(self, key: str, module: str) -> bool:
        """Whether the last reading of ``key`` holds histograms of the module."""
        column = self.source.at(key, HISTOGRAMS, None)
        return column is not None and any(map(self._is_of(module), column.layers))

    def _is_of(self, module: str) -> Callable[[str], bool]:
        return lambda name: module_of(name, self.parameters) == module

    def _ordered(self, names: Iterable[str]) -> list[str]:
        """Names of one module's parameters, in the order of the model: whatever is drawn of them, they look alike."""
        places = {name: place for place, name in enumerate(self.parameters)}
        return sorted(names, key=lambda name: places.get(name, len(places)))

    def _within(self, name: str) -> str:
        return self.parameters[name].parameter if name in self.parameters else ""

    def history(self, column: LayerColumn) -> Quantity:
        """The column's readings, thinned evenly where they are very many."""
        return self._quantity(
            column, lambda key: self.source.layered(key, self._kinds[key], "by module", self._reduction(key))
        )

    def reading(self, column: LayerColumn, step: int | None) -> Quantity:
        """The column's last reading at or before ``step``: one row, or none."""

        def read(key: str) -> Column | None:
            kind = self._kinds[key]
            kept = self.source.layered(key, kind, "by module", self._reduction(key))
            if kept is not None and len(kept.steps) == self.source.series[key, kind].points:  # none was left out
                return _last(kept, step)
            found = self.source.at(key, kind, step)
            return None if found is None else self._reduction(key)(found)

        return self._quantity(column, read)

    def over_time(self, column: LayerColumn, rows: Sequence[Row]) -> Stretched | None:
        """Medians over the modules of each row, in so many stretches of the run as a drawing holds.

        Args:
            column: What of them.
            rows: In the order in which they are drawn.
        """
        names = tuple(row.name for row in rows)
        keys = [(key, self._kinds[key]) for key in dict.fromkeys((column.key, column.over)) if key]

        def make(columns: Mapping[str, Column]) -> Column:
            def read(key: str) -> Column | None:
                return self._reduction(key)(columns[key]) if len(columns[key]) else None

            found = self._quantity(column, read)
            middle = middles(rows, np.where(found.missing, np.nan, found.values))
            lost = np.isnan(found.values) & ~found.missing
            for place, row in enumerate(rows):
                middle[lost[:, row.members].any(1), place] = np.nan  # which a median leaves out
            missing = np.stack([found.missing[:, row.members].all(1) for row in rows], 1)
            return Column(id_of(column), "layers", found.steps, found.times, middle, missing, names)

        members = tuple(row.members for row in rows)
        place = id_of(column), names, members, self.modules
        width = columns_for(len(rows))
        fold = self.source.folded(place, keys, lambda: Of(Stretches(width), make))
        return None if fold is None else fold.made.column(id_of(column), log=column.scale == "log")

    def _reduction(self, key: str) -> Callable[[Column], Column]:
        combine = combine_of(self.source.header.instruments, key)
        return lambda column: by_module(column, self.parameters, combine)

    def _quantity(self, column: LayerColumn, read: Callable[[str], Column | None]) -> Quantity:
        own = read(column.key)
        other = read(column.over) if column.over and own is not None else None
        if own is None or (column.over and other is None):
            nothing = np.zeros((0, len(self.modules)))
            return Quantity(column, np.zeros(0, np.int64), np.zeros(0), nothing, nothing.astype(bool))
        steps, times, values, missing = own.steps, own.times, *self._placed(own)
        if other is not None:
            below, gaps = self._placed(other)
            steps, mine, theirs = np.intersect1d(steps, other.steps, return_indices=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                values = values[mine] / below[theirs]
            missing = missing[mine] | gaps[theirs] | np.isnan(values) & ~np.isnan(below[theirs])  # 0 / 0 is no value
            times = times[mine]
        if column.share:
            total = np.where(missing, 0, values).sum(1, keepdims=True)
            missing = missing | (total <= 0)
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.where(missing, np.nan, values / total)
        return Quantity(column, steps, times, values, missing)

    def _placed(self, column: Column) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Values and gaps in the places of the modules."""
        places = {name: place for place, name in enumerate(self.modules)}
        values = np.full((len(column.steps), len(self.modules)), np.nan)
        missing = np.ones(values.shape, bool)
        own = [index for index, name in enumerate(column.layers) if name in places]
        at = [places[column.layers[index]] for index in own]
        values[:, at], missing[:, at] = column.values[:, own], column.missing[:, own]
        return values, missing


def by_module(column: Column, owners: Mapping[str, Owner], combine: Combine) -> Column:
    """A layer-wise series with one number for each module; of histograms the median of all its elements."""
    layers = Layers(
        column.layers, column.steps, column.times, column.values, column.missing, column.edges, column.y_edges, owners,
        combine,
    )  # fmt: skip
    if column.kind == HISTOGRAMS:
        layers = _medians(layers)
    grouped = layers.grouped(lambda name: module_of(name, owners))
    return replace(
        column, kind="layers", layers=grouped.names, values=grouped.values, missing=grouped.missing, edges=None
    )


def _medians(layers: Layers) -> Layers:
    """Medians of histograms: of a module's altogether where all share their bins, else of each of its own."""
    assert layers.edges is not None
    if layers.edges.ndim == 1:
        owners = layers.owners
        layers = layers.grouped(lambda name: module_of(name, owners))
    assert layers.edges is not None
    middle = quantiles(layers.values.astype(np.int64), layers.edges, (0.5,))[..., 0]
    missing = layers.missing | np.isnan(middle)
    return replace(layers, values=middle, missing=missing, edges=None)


def _last(column: Column, step: int | None) -> Column:
    """The last point at or before ``step``: one row, or none."""
    end = len(column.steps) if step is None else int(np.searchsorted(column.steps, step, side="right"))
    return rows_of(column, slice(max(end - 1, 0), end))


def module_of(layer: str, owners: Mapping[str, Owner]) -> str:
    """The module that a parameter, or a module, belongs to."""
    owner = owners.get(layer)
    return (owner.module if owner is not None else layer) or WHOLE
