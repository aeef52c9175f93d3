"""Panels and screens as data: what is drawn, from which log keys, and how it is read.

A run's log carries its panels and screens, so that a dashboard draws an instrument it has never heard of.
Nothing here knows plotly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["lines", "histogram", "histogram2d", "gauge", "parabola", "heatmap", "ridgelines", "density"]
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
            size over the parabola it is measured on), ``heatmap`` (a layer-wise number as colours, layers by step),
            ``ridgelines`` (a layer-wise histogram at one step, layer above layer, before its first), ``density`` (the
            normalised step size over time: what share of the steps lay where).
        how_to_read: One sentence for somebody who sees the panel for the first time.
        keys: Log keys it reads. Empty: the key of the instrument that declares it.
        group: Panels of a group stand together where no screen places them.
        yscale: Scale of the value axis; of the counts in a histogram.
        xlabel: Name and unit of what is binned; of the first number of a pair (``histogram2d``).
        ylabel: Name and unit of the value axis. Empty: the log key.
        user_metrics: Whether the scalars that the user logs join the keys.
        references: Horizontal lines with a meaning, as ``(value, label)``.
        optional: Whether it stays out until one of its keys has a value: not every training scales its loss.
        thresholds: Log keys of what the first key is compared with, and what to call it: drawn dashed, and no keys of
            the panel's own. ``(("batch_size", "batch"),)``; in ``ridgelines`` places on the axis of what is binned.
        band: Log keys of the lower and the upper edge of a band around the first key.
        error: Log key of how far the first key's values may be off.
        like: The user's metrics with this word in the last part of their name join the first key's strip: ``loss``
            takes ``valid/loss`` and ``val_loss``.
        caption: A sentence about the first threshold as a multiple of the first key, which stands for ``{}``.
        shares: Log keys that are 1 where something was so, and words for it: the share of steps is said below.
        heights: Of the keys' strips beside each other (``lines``); none: all are alike.
        limits: Ends of the colours (``heatmap``), in the unit of the value.
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
    thresholds: tuple[tuple[str, str], ...] = ()
    band: tuple[str, str] | None = None
    error: str = ""
    like: str = ""
    caption: str = ""
    shares: tuple[tuple[str, str], ...] = ()
    heights: tuple[float, ...] = ()
    limits: tuple[float, float] | None = None
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
        for name in ("thresholds", "shares"):
            known[name] = tuple((str(key), str(label)) for key, label in known.get(name, ()))
        known["heights"] = tuple(map(float, known.get("heights", ())))
        for name in ("band", "limits"):  # pairs, or nothing
            known[name] = tuple(known[name]) if known.get(name) else None
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
        places: What stands where. A place whose panel has no data in the run stays out; its column closes up. Of places
            with the same cell the first that has data takes it.
        headings: Names of the columns, from the left; none: they have no names.
        paper: Whether it is what the static plotter prints too.
    """

    name: str
    columns: int
    places: tuple[Place, ...]
    headings: tuple[str, ...] = ()
    paper: bool = True

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the log."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Screen:
        """The inverse of :meth:`to_json`."""
        places = tuple(Place(**place) for place in data["places"])
        headings = tuple(map(str, data.get("headings", ())))
        return cls(data["name"], int(data["columns"]), places, headings, bool(data.get("paper", True)))


def _known(cls: type[LayerColumn], data: Mapping[str, Any]) -> LayerColumn:
    """``data`` as an object, without the fields of a newer version."""
    return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})
