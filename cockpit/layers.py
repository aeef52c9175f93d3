"""Layers of a quantity, and groups of them: by module type, block, position in repeated blocks, or depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

By: TypeAlias = Literal["type", "parameter", "block", "position", "depth"]
Combine: TypeAlias = Literal["norm", "sum", "mean", "median", "min", "max"]
COMBINE: tuple[Combine, ...] = ("norm", "sum", "mean", "median", "min", "max")


def _norm(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Root of the sum of squares, which themselves might overflow."""
    norms: NDArray[np.float64] = np.hypot.reduce(np.abs(values), axis=axis)
    return np.where(np.isnan(values).any(axis), np.nan, norms)  # the hypotenuse beside an infinite side is infinite


_WHOLE: tuple[Combine, ...] = ("norm", "sum")  # which a part of the group would falsify
_REDUCE: Mapping[str, Callable[..., Any]] = {
    "norm": _norm,
    "sum": np.sum,
    "mean": np.mean,
    "median": np.median,
    "min": np.min,
    "max": np.max,
}


@dataclass(frozen=True)
class Owner:
    """Whom a layer belongs to.

    Args:
        module: Dotted name of the module.
        type: The module's class.
        parameter: Name of the parameter within it; empty where the layer is the module itself.
    """

    module: str
    type: str
    parameter: str = ""


@dataclass(frozen=True)
class Layers:
    """A quantity layer by layer.

    Args:
        names: Parameters or modules, in model order; or groups of them.
        steps: Shape ``[n]``.
        times: Seconds since the run began. Shape ``[n]``.
        values: Shape ``[n, L]``; histograms: counts ``[n, L, bins]``, of pairs ``[n, L, x bins, y bins]``.
        missing: Where the value is undefined. Shape ``[n, L]``.
        edges: Bin boundaries of histograms, of pairs those of the first axis; see :class:`cockpit.store.Column`.
        y_edges: Bin boundaries of the second axis of pairs.
        owners: By layer; layers that the model does not know, such as groups of parameters, have none.
        combine: How the layers of a group make one value, unless :meth:`grouped` is told otherwise.
    """

    names: tuple[str, ...]
    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64] | NDArray[np.int64]
    missing: NDArray[np.bool_]
    edges: NDArray[np.float64] | None = None
    y_edges: NDArray[np.float64] | None = None
    owners: Mapping[str, Owner] = field(default_factory=dict)
    combine: Combine = "median"

    def grouped(self, by: By | Callable[[str], str], how: Combine | None = None) -> Layers:
        """Layers that belong together as one each.

        Args:
            by: ``type``: class of the module, ``Linear``. ``parameter``: and the parameter in it, ``Linear.weight``.
                ``block``: what stands before and including the first number in the name, ``encoder.layers.3``.
                ``position``: the same place in repeated blocks of one structure, ``encoder.layers.[0-11].norm.weight``.
                ``depth``: module by module, in model order. Or a function from a layer's name to its group's.
                A layer of which this is not known stands alone.
            how: ``norm`` (root of the sum of squares), ``sum``, ``mean``, ``median``, ``min`` or ``max``; by default
                what the quantity's instrument declares, and the median where it declares nothing. Histograms: sums.

        Returns:
            The groups, in order of their first layer. A norm or a sum is missing where one of its layers is; any other
            value where all of them are. NaN that was logged makes the group NaN.

        Raises:
            ValueError: For another ``by`` or ``how``; for histograms that are not to be added, or whose bins differ.
        """
        groups = self._groups(by)
        how = how or ("sum" if self.edges is not None else self.combine)
        if how not in _REDUCE:
            raise ValueError(f"layers are combined by one of {', '.join(_REDUCE)}, not by {how!r}")
        if self.edges is not None:
            return self._added(groups, how)
        columns = [self._combined(members, how) for members in groups.values()]
        shape = (len(self.steps), len(groups))
        values = np.array([value for value, _ in columns], dtype=np.float64).reshape(shape[::-1]).T
        missing = np.array([gaps for _, gaps in columns], dtype=bool).reshape(shape[::-1]).T
        return replace(self, names=tuple(groups), values=values, missing=missing, owners={})

    def _groups(self, by: By | Callable[[str], str]) -> dict[str, list[int]]:
        """Numbers of the layers in each group."""
        names = [by(name) for name in self.names] if callable(by) else names_of_groups(self.names, self.owners, by)
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            groups.setdefault(name, []).append(index)
        return groups

    def _combined(self, members: Sequence[int], how: Combine) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The group's values and where they are missing."""
        values, gaps = self.values[:, members].astype(np.float64), self.missing[:, members]
        missing: NDArray[np.bool_] = np.asarray(gaps.any(1) if how in _WHOLE else gaps.all(1))
        if not gaps.any():
            with np.errstate(over="ignore", invalid="ignore"):
                return _REDUCE[how](values, axis=1), missing
        combined = np.full(len(values), np.nan)
        patterns, rows = np.unique(gaps, axis=0, return_inverse=True)
        for index, pattern in enumerate(patterns):
            which = (rows.reshape(-1) == index) & ~missing
            if which.any():
                with np.errstate(over="ignore", invalid="ignore"):  # infinities are values like others
                    combined[which] = _REDUCE[how](values[which][:, ~pattern], axis=1)
        return combined, missing

    def _added(self, groups: Mapping[str, Sequence[int]], how: str) -> Layers:
        """Histograms: counts are added, where the bins are the same."""
        if how != "sum":
            raise ValueError(f"histograms can only be added, how='sum', not combined by {how!r}")
        missing = np.array([self.missing[:, members].any(1) for members in groups.values()], dtype=bool)
        counts = [self.values[:, members].sum(1) for members in groups.values()]
        values = np.moveaxis(np.array(counts, dtype=np.int64).reshape(len(groups), *self.values[:, 0].shape), 0, 1)
        missing = missing.reshape(len(groups), len(self.steps)).T
        values[missing] = 0
        return replace(
            self,
            names=tuple(groups),
            values=values,
            missing=missing,
            edges=self._shared(self.edges, groups),
            y_edges=self._shared(self.y_edges, groups),
            owners={},
        )

    def _shared(
        self, edges: NDArray[np.float64] | None, groups: Mapping[str, Sequence[int]]
    ) -> NDArray[np.float64] | None:
        """The groups' bin boundaries.

        Raises:
            ValueError: If they differ within a group.
        """
        if edges is None or edges.ndim == 1:
            return edges
        shared = []
        for name, members in groups.items():
            first = edges[:, members[0]]
            for member in members[1:]:
                both = ~(self.missing[:, members[0]] | self.missing[:, member])
                if not np.array_equal(edges[both, member], first[both]):
                    raise ValueError(f"the histograms of group {name!r} have different bins and cannot be added")
            shared.append(first)
        return np.moveaxis(np.array(shared), 0, 1)


def owners_of(model: Mapping[str, Any]) -> dict[str, Owner]:
    """Owners of parameters and modules by name, in model order, from what a run's header says of the model."""
    owners: dict[str, Owner] = {}
    for entry in model.get("parameters", ()):
        name, module, kind = str(entry["name"]), str(entry.get("module", "")), str(entry.get("type", ""))
        owners.setdefault(module, Owner(module, kind))
        owners[name] = Owner(module, kind, name[len(module) :].lstrip("."))
    return owners


def names_of_groups(names: Sequence[str], owners: Mapping[str, Owner], by: By) -> list[str]:
    """For each layer the name of the group it belongs to; see :meth:`Layers.grouped`.

    Raises:
        ValueError: For another ``by``.
    """
    if by not in get_args(By):
        raise ValueError(f"layers are grouped by one of {', '.join(get_args(By))} or a function, not by {by!r}")
    return _NAMES[by](names, owners)


def combine_of(instruments: Mapping[str, Any], key: str) -> Combine:
    """How the instrument of ``key`` says that layers are combined; the median if it says nothing that is known.

    Args:
        instruments: What a run's header says of them.
        key: Log key.
    """
    name, _, part = key.partition(".")
    settings = instruments.get(name)
    combine = settings.get("combine") if isinstance(settings, Mapping) else None
    declared = combine.get(part) if isinstance(combine, Mapping) else None
    return next((known for known in COMBINE if known == declared), "median")


def _by_type(names: Sequence[str], owners: Mapping[str, Owner]) -> list[str]:
    return [owners[name].type if name in owners else name for name in names]


def _by_parameter(names: Sequence[str], owners: Mapping[str, Owner]) -> list[str]:
    found = [owners.get(name) for name in names]
    return [
        name if owner is None else f"{owner.type}.{owner.parameter}" if owner.parameter else owner.type
        for name, owner in zip(names, found, strict=True)
    ]


def _by_depth(names: Sequence[str], owners: Mapping[str, Owner]) -> list[str]:
    return [owners[name].module if name in owners else name for name in names]


def _by_block(names: Sequence[str], owners: Mapping[str, Owner]) -> list[str]:
    return [_split(name)[0] for name in names]


def _by_position(names: Sequence[str], owners: Mapping[str, Owner]) -> list[str]:
    """Blocks ``p.0``, ``p.1`` … are repetitions if they hold the same names and types."""
    blocks: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        block, rest = _split(name)
        blocks.setdefault(block, []).append((rest, owners[name].type if name in owners else ""))
    alike: dict[tuple[str, frozenset[tuple[str, str]]], list[str]] = {}
    for block, content in blocks.items():
        stem, _, number = block.rpartition(".")
        if number.isdecimal():
            alike.setdefault((stem, frozenset(content)), []).append(number)
    written = {}
    for (stem, _), numbers in alike.items():
        if len(numbers) > 1:
            for number in numbers:
                written[_joined(stem, number)] = _joined(stem, f"[{_ranges(numbers)}]")
    split = [_split(name) for name in names]
    return [_joined(written[block], rest) if block in written else _joined(block, rest) for block, rest in split]


def _split(name: str) -> tuple[str, str]:
    """Block and rest: up to the first number, else up to the first dot."""
    parts = name.split(".")
    end = next((index for index, part in enumerate(parts) if part.isdecimal()), 0) + 1
    return ".".join(parts[:end]), ".".join(parts[end:])


def _joined(first: str, second: str) -> str:
    return f"{first}.{second}" if first and second else first or second


def _ranges(numbers: Sequence[str]) -> str:
    """``0-3,5`` for 0, 1, 2, 3, 5."""
    ordered = sorted(map(int, numbers))
    runs: list[list[int]] = []
    for number in ordered:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


_NAMES: Mapping[str, Callable[[Sequence[str], Mapping[str, Owner]], list[str]]] = {
    "type": _by_type,
    "parameter": _by_parameter,
    "block": _by_block,
    "position": _by_position,
    "depth": _by_depth,
}
