"""The user's metrics in strips: ``train/accuracy`` and ``valid/accuracy`` stand together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice


def strips_of(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Curves by name in strips by title, both sorted: what follows a key's last slash names the strip.

    Args:
        keys: Log keys of the metrics.

    Returns:
        For each strip's title its keys by the curve's name; a lone curve has no name, its whole key is the title.

    Example:
        >>> strips_of(["valid/loss", "train/loss", "train/lr"])
        {'loss': {'train': 'train/loss', 'valid': 'valid/loss'}, 'train/lr': {'': 'train/lr'}}
    """
    groups: dict[str, dict[str, str]] = {}
    for key in sorted(keys):
        tail = key.rpartition("/")[2]
        head = key[: len(key) - len(tail)]
        groups.setdefault(tail, {})[head[:-1] if head.strip("/") else head] = key
    strips = {}
    for tail, curves in groups.items():
        key, *others = curves.values()
        strips[tail if others else key] = curves if others else {"": key}
    return strips


def first_of(keys: Iterable[str], strips: int, curves: int) -> list[str]:
    """Those keys that stand in the first ``strips`` strips and are among the first ``curves`` curves there."""
    return [key for strip in islice(strips_of(keys).values(), strips) for key in islice(strip.values(), curves)]


def alike(keys: Iterable[str], word: str) -> list[str]:
    """Those keys that have ``word`` in their last part, sorted.

    Example:
        >>> alike(["valid/loss", "train/val_loss", "lossless", "loss/scale"], "loss")
        ['train/val_loss', 'valid/loss']
    """
    return sorted(key for key in keys if word and word in re.split(r"[^0-9a-z]+", key.rpartition("/")[2].lower()))
