"""Kinds of tensors in a network, which are trained best at rates of their own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

KINDS = ("input", "hidden", "output", "bias", "norm")
"""Weights of the first layer, of those between, and of the last; what is added; and gains of normalisations."""

WEIGHTS = KINDS[:3]
"""Those that sum over inputs."""

_MARK = ":"


def kinds_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """The kind of each tensor, from names, shapes and order.

    Of tensors with two axes and more, the first is ``"input"``, the last ``"output"``, the others ``"hidden"``; a
    single one is ``"output"``. Others are ``"norm"`` where their name ends in ``weight``, as those of the gains of all
    normalisations of ``torch.nn`` do, and ``"bias"`` where it does not. Names that :func:`marked` made say it.

    Args:
        shapes: By name, in the order of the layers.
    """
    weights = [name for name, shape in shapes.items() if len(shape) > 1]
    ends = {name: kind for kind, some in (("input", weights[:1]), ("output", weights[-1:])) for name in some}
    found = {}
    for name, shape in shapes.items():
        mark = name.partition(_MARK)[0]
        if _MARK in name and mark in KINDS:
            found[name] = mark
        elif len(shape) > 1:
            found[name] = ends.get(name, "hidden")
        else:
            found[name] = "norm" if name.rpartition(".")[2] == "weight" else "bias"
    return found


def kinds_in(model: nn.Module) -> dict[Tensor, str]:
    """The kind of each of a network's parameters: as :func:`kinds_of` has it, but for tables of embeddings, which are
    all ``"input"``."""
    named = dict(model.named_parameters())
    kinds = kinds_of({name: p.shape for name, p in named.items()})
    embeddings = {m.weight: "input" for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    return {**{p: kinds[name] for name, p in named.items()}, **embeddings}


def marked(name: str, kind: str) -> str:
    """A name that says of which kind its tensor is."""
    return f"{kind}{_MARK}{name}"


def fan_in(shape: Sequence[int]) -> int:
    """How many inputs a weight sums over; 1 for a tensor with less than two axes."""
    return math.prod(shape[1:])


def checked(kinds: Iterable[str], number: int) -> list[str]:
    """Kinds that somebody gave.

    Args:
        kinds: One for each parameter.
        number: How many parameters there are.

    Raises:
        ValueError: If there are more or fewer, or one is unknown.
    """
    found = list(kinds)
    if len(found) != number or not set(found) <= set(KINDS):
        raise ValueError(
            f"a group has one kind for each of its {number} parameters, of {', '.join(KINDS)}; got {found}"
        )
    return found
