"""Modules in the order in which they were first called, and layers after them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cockpit.layers import Owner

FORWARD = "forward_order"
"""Name of the document that holds the names of modules in the order in which they were first called."""


def in_depth_order(sequences: Iterable[Sequence[str]]) -> list[str]:
    """All names once: those of the first sequence in its order, each further one behind the name it follows in its own.

    Example:
        >>> in_depth_order([["conv", "fc"], ["conv", "relu", "fc", "out"]])
        ['conv', 'relu', 'fc', 'out']
    """
    order: list[str] = []
    for names in sequences:
        at = len(order) if set(order).isdisjoint(names) else 0
        for name in names:
            if name in order:
                at = order.index(name) + 1
            else:
                order.insert(at, name)
                at += 1
    return order


def before_their_parts(returned: Sequence[str]) -> list[str]:
    """Modules in the order in which they were called, from that in which they first returned: parts return earlier.

    Example:
        >>> before_their_parts(["stem", "block.fc", "block", "head"])
        ['stem', 'block', 'block.fc', 'head']
    """
    ranks = {name: rank for rank, name in enumerate(returned)}
    first = dict(ranks)
    for name, rank in ranks.items():
        parts = name.split(".") if name else []
        for length in range(len(parts)):
            whole = ".".join(parts[:length])
            if whole in first:
                first[whole] = min(first[whole], rank)
    return sorted(returned, key=lambda name: (first[name], len(name)))


def in_forward_order(names: Sequence[str], owners: Mapping[str, Owner], called: Sequence[str]) -> list[str]:
    """Layers in the order in which their modules were first called, and as they are where that is not known.

    Args:
        names: Parameters or modules, in model order. What the model does not know stays behind the layer before it.
        owners: Owners of what the model knows, in model order, see :func:`cockpit.layers.owners_of`. A module that was
            never called, because its parent uses its parameters, stands behind the one before it.
        called: Names of the modules that were, in that order.
    """
    if not called:
        return list(names)
    known = dict.fromkeys(owner.module for owner in owners.values())
    ranks = {module: rank for rank, module in enumerate(in_depth_order([called, list(known)]))}
    places, last = [], -1
    for name in names:
        last = ranks.get(owners[name].module if name in owners else name, last)
        places.append(last)
    return [names[at] for at in sorted(range(len(names)), key=places.__getitem__)]
