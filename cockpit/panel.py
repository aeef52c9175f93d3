"""Panels and screens as data: what is drawn, from which log keys, and how it is read.

A run's log carries its panels and screens, so that a dashboard draws an instrument it has never heard of.
Nothing here knows plotly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["lines", "histogram", "histogram2d", "gauge", "parabola"]
AxisScale: TypeAlias = Literal["linear", "log"]


@dataclass(frozen=True)
class LayerColumn:
    """A layer-wise quantity as a column of the table of layers.

    Args:
        title: Heading, two or three words.
        key: Log key of a layer-wise number, or of a layer-wise histogram, of which the median is shown.
        over: Log key of a layer-wise number that it is divided by; empty: it stands for itself.
        share: Whether a layer's share of the sum over all layers is shown.
        scale: Scale of the bars. What has no logarithm has no bar on a logarithmic one.
        how_to_read: One sentence.
        place: Columns stand in the order of their places, from the left.
    """

    title: str
    key: str
    over: str = ""
    share: bool = False
    scale: AxisScale = "linear"
    how_to_read: str = ""
    place: int = 100


@dataclass(frozen=True)
class Panel:
    """One drawing and the words around it.

    Args:
        title: Heading, a few words.
        kind: Which drawing: ``lines`` (one strip per key on a shared step axis), ``histogram`` (bars at one step),
            ``histogram2d`` (counts of pairs as colours, and both marginals as bars, at one step), ``gauge`` (the three
            gradient tests around the mean gradient, with their histories), ``parabola`` (density of a normalised step
            size over the parabola it is measured on).
        how_to_read: One sentence for somebody who sees the panel for the first time.
        keys: Log keys it reads. Empty: the key of the instrument that declares it.
        group: Panels of a group stand together where no screen places them.
        yscale: Scale of the value axis; of the counts in a histogram.
        xlabel: Name and unit of what is binned; of the first number of a pair (``histogram2d``).
        ylabel: Name and unit of the value axis. Empty: the log key.
        user_metrics: Whether the scalars that the user logs join the keys.
        references: Horizontal lines with a meaning, as ``(value, label)``.
        optional: Whether it stays out until one of its keys has a value: not every training scales its loss.
        formula: What it shows, in TeX, one equation a line; see :mod:`cockpit.drawing.formula` for what is set.
        good: What it looks like when all is well.
        bad: What trouble looks like, and what to do about it.
        source: Where the quantity comes from: paper and equation, or how it is counted.
        layers: Its quantities as columns of the table of layers.
    """

    title: str
    kind: Kind
    how_to_read: str
    keys: tuple[str, ...] = ()
    group: str = "other"
    yscale: AxisScale = "linear"
    xlabel: str = ""
    ylabel: str = ""
    user_metrics: bool = False
    references: tuple[tuple[float, str], ...] = ()
    optional: bool = False
    formula: str = ""
    good: str = ""
    bad: str = ""
    source: str = ""
    layers: tuple[LayerColumn, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the log."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Panel:
        """The inverse of :meth:`to_json`; fields of a newer version are ignored."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        known["keys"] = tuple(known.get("keys", ()))
        known["references"] = tuple((float(value), str(label)) for value, label in known.get("references", ()))
        known["layers"] = tuple(_known(LayerColumn, column) for column in known.get("layers", ()))
        return cls(**known)


@dataclass(frozen=True)
class Place:
    """Where a screen puts a panel: cells of a grid, counted from 0.

    Args:
        panel: The panel's name: the instrument that declares it, or a name of the screen's own panels.
        column: Column of its left edge.
        row: Row of its top edge.
        width: Columns it spans.
        height: Rows it spans.
    """

    panel: str
    column: int
    row: int
    width: int = 1
    height: int = 1


@dataclass(frozen=True)
class Screen:
    """A named arrangement of panels, stored with the run.

    Args:
        name: Shown as the view's name, ``Classic``.
        columns: Number of grid columns.
        places: What stands where. A place whose panel has no data in the run stays out; its column closes up.
        headings: Names of the columns, from the left; none: they have no names.
    """

    name: str
    columns: int
    places: tuple[Place, ...]
    headings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the log."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Screen:
        """The inverse of :meth:`to_json`."""
        places = tuple(Place(**place) for place in data["places"])
        return cls(data["name"], int(data["columns"]), places, tuple(map(str, data.get("headings", ()))))


def _known(cls: type[LayerColumn], data: Mapping[str, Any]) -> LayerColumn:
    """``data`` as an object, without the fields of a newer version."""
    return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})
