"""Part of a mini-batch: what costs one sample's work for every sample need not look at all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Samples: TypeAlias = "int | slice | Sequence[int]"


@dataclass(frozen=True)
class Subset:
    """Which samples of a mini-batch are looked at; of every micro-batch where it comes in several backward passes.

    Args:
        count: So many, evenly spaced; all of a smaller batch.
        places: Or these; those that a smaller batch does not have are left out.
        bounds: Or those of a slice: start, stop and step.
    """

    count: int | None = None
    places: tuple[int, ...] | None = None
    bounds: tuple[int | None, int | None, int | None] | None = None

    @classmethod
    def of(cls, samples: Samples | None) -> Subset | None:
        """What a user may write.

        Raises:
            ValueError: For no samples, or one listed twice or counted from the end.
            TypeError: For anything else.
        """
        if samples is None:
            return None
        if isinstance(samples, slice):
            return cls(bounds=(samples.start, samples.stop, samples.step))
        if isinstance(samples, int) and not isinstance(samples, bool):
            if samples < 1:
                raise ValueError(f"samples= needs at least one sample, got {samples}")
            return cls(count=samples)
        if not isinstance(samples, Sequence) or not all(type(place) is int for place in samples):
            raise TypeError(f"samples= takes a number, a slice, or a list of indices, got {samples!r}")
        if not samples or min(samples) < 0 or len(set(samples)) < len(samples):
            raise ValueError(f"samples= needs different indices from 0 on, and at least one, got {list(samples)}")
        return cls(places=tuple(sorted(samples)))

    def of_batch(self, N: int) -> tuple[int, ...]:
        """Indices in a batch of ``N`` samples, ascending."""
        if self.count is not None:
            count = min(self.count, N)
            return tuple(place * N // count for place in range(count))
        if self.places is not None:
            return tuple(place for place in self.places if place < N)
        return tuple(sorted(range(*slice(*(self.bounds or ())).indices(N))))
