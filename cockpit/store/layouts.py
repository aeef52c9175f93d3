"""What the points of a series have in common, names of layers and bins of histograms, which a log holds once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from cockpit.store.arrays import Array, encode_forms, form_of
from cockpit.store.batch import Row
from cockpit.store.codec import Edges, encode_edges
from cockpit.store.plain import text

_RECENT = 1_000  # remembered by content


class Layouts:
    """Numbers layouts.

    Args:
        known: Number of each that the log already holds, by digest.
    """

    def __init__(self, known: Mapping[bytes, int] | None = None) -> None:
        self._numbers = dict(known or {})
        self._count = max(self._numbers.values(), default=0)
        self._recent: dict[tuple[tuple[str, ...] | None, str | None, bytes | None], int] = {}
        self._fresh: list[Row] = []

    def number(self, layers: tuple[str, ...] | None, edges: Edges | None = None) -> int:
        """That of layer names and edges."""
        boundaries = None if edges is None else encode_edges(edges)
        bins = None if edges is None else "x".join(str(axis.shape[-1] - 1) for axis in edges)
        return self._number(layers, bins, boundaries)

    def number_of_arrays(self, arrays: Mapping[str, Array]) -> int:
        """That of names and forms of arrays."""
        return self._number(tuple(arrays), None, encode_forms(form_of(name, array) for name, array in arrays.items()))

    def take(self) -> list[Row]:
        """Rows of those that are not in the log, and have not been taken before."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def _number(self, layers: tuple[str, ...] | None, bins: str | None, boundaries: bytes | None) -> int:
        number = self._recent.get((layers, bins, boundaries))
        if number is None:
            number = self._stored(layers, bins, boundaries)
            if len(self._recent) >= _RECENT:  # edges that change at every step must not pile up
                self._recent.clear()
            self._recent[layers, bins, boundaries] = number
        return number

    def _stored(self, layers: tuple[str, ...] | None, bins: str | None, boundaries: bytes | None) -> int:
        names = None if layers is None else json.dumps([text(name) for name in layers], ensure_ascii=False)
        digest = hashlib.blake2b(f"{names}\n{bins}\n".encode() + (boundaries or b""), digest_size=16).digest()
        number = self._numbers.get(digest)
        if number is None:
            self._count += 1
            number = self._numbers[digest] = self._count
            last = None if bins is None else int(bins.rpartition("x")[2])
            self._fresh.append((number, digest, names, last, boundaries))
        return number
