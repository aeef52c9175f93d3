"""What histograms of individual gradients' elements have in common: how the elements come, and how passes add up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.backward.pooled import pooled_shares
from cockpit.capture.individual.embedding import EmbeddingGradients
from cockpit.capture.individual.gradients import SampleGradients, Zeros, picked
from cockpit.capture.individual.outer_products import OuterProducts
from cockpit.capture.unavailable import Unavailable
from cockpit.probes.per_sample_moments import covered
from cockpit.probes.probe import Reduction, Surroundings
from cockpit.probes.subset import Subset


class Counter(ABC):
    """Counts elements of one parameter's individual gradients, on the parameter's device."""

    counts: Tensor

    @abstractmethod
    def rows(self, rows: Tensor, factors: Tensor) -> None:
        """The elements ``factors[n] · rows[n, j]``: shapes ``[N, m]`` and ``[N]``."""

    @abstractmethod
    def outer(self, inputs: Tensor, deltas: Tensor) -> None:
        """The elements ``deltas[n, o] · inputs[n, i]``: shapes ``[N, I]`` and ``[N, O]``."""

    @abstractmethod
    def lookups(self, rows: Tensor, factors: Tensor, owners: Tensor) -> None:
        """As :meth:`rows`, of rows of the parameter, shape ``[R]``; takes as many zeros away."""

    @abstractmethod
    def zeros(self, samples: int) -> None:
        """Samples whose gradient is zero."""


class _CountingReduction(Reduction):
    """Hands a parameter's individual gradients to its counter, in the cheapest form there is."""

    def __init__(
        self, counter: Counter, gradients: SampleGradients, factors: Tensor, only: tuple[int, ...] | None
    ) -> None:
        self._counter = counter
        self._gradients: SampleGradients | None = gradients
        self._factors = factors
        self.only = only
        if only is not None:
            self._factors = picked(factors, only)

    def closed(self) -> bool:
        gradients = self._gradients
        if gradients is not None and self.only is not None:
            gradients = gradients.select(self.only)
        if isinstance(gradients, OuterProducts) and gradients.positions == 1:
            deltas = gradients.deltas[:, 0]
            self._counter.outer(gradients.inputs[:, 0], deltas * self._factors.to(deltas).unsqueeze(1))
        elif isinstance(gradients, Zeros):
            self._counter.zeros(gradients.samples)
        elif isinstance(gradients, EmbeddingGradients):
            # A sample's gradient is zero in every row that it did not look up.
            self._counter.zeros(gradients.samples)
            factors = self._factors[gradients.sample_of]
            self._counter.lookups(gradients.touched, factors.to(gradients.touched), gradients.index_of)
        else:
            return False
        return True

    def rows(self, start: int, rows: Tensor) -> None:
        self._counter.rows(rows, self._factors[start : start + len(rows)].to(rows))

    def finish(self) -> None:
        self._gradients = None


@dataclass(frozen=True)
class Totals:
    """Counts of a step.

    Args:
        names: Parameters with individual gradients, in the model's order.
        counts: One array for each, on the host. Shape ``[P, …]``.
        samples: How many samples were looked at.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    samples: int


class Counting:
    """The counters of a step, one for each parameter.

    Args:
        surroundings: The step's.
        subset: Which samples are looked at; ``None`` for all.
        new: Makes the counter of the parameter of this index.
    """

    def __init__(self, surroundings: Surroundings, subset: Subset | None, new: Callable[[int], Counter]) -> None:
        self._surroundings, self._subset, self._new = surroundings, subset, new
        self._counters: dict[int, Counter] = {}
        self._seen: dict[int, int] = {}
        self._passes: list[BackwardPass] = []

    def reduction(self, index: int, gradients: SampleGradients, backward: BackwardPass) -> Reduction | None:
        """How a parameter's individual gradients are counted; ``None`` where none of the samples is among them."""
        if index not in self._counters:
            self._counters[index] = self._new(index)
        samples = None if self._subset is None else self._subset.of_batch(gradients.samples)
        self._seen[index] = self._seen.get(index, 0) + (gradients.samples if samples is None else len(samples))
        if samples == ():
            return None
        return _CountingReduction(self._counters[index], gradients, backward.factors(), samples)

    def end_pass(self, backward: BackwardPass) -> None:
        """The pass is over."""
        self._passes.append(backward)

    def totals(self) -> Totals:
        """All counts, copied to the host at once.

        Raises:
            Unavailable: With the reason why there are none.
        """
        if not self._passes:
            raise Unavailable("no backward pass was seen")
        pooled_shares(self._passes)
        sizes = [len(backward.weights()) for backward in self._passes]
        samples = sum(sizes if self._subset is None else (len(self._subset.of_batch(size)) for size in sizes))
        if samples == 0:
            raise Unavailable(f"none of the samples asked for is in a mini-batch of {sum(sizes)}")
        table, indices = self._surroundings.table, covered(self._surroundings, self._counters)
        for index in indices:
            # Micro-batches that did not use a parameter have no gradient there: zeros, as in one large batch.
            self._counters[index].zeros(samples - self._seen[index])
        counts = torch.stack([self._counters[index].counts for index in indices]).cpu().numpy()
        return Totals(tuple(table[index].name for index in indices), counts, samples)
