"""Some elements of every individual gradient, spread evenly over the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import ParameterTable
from cockpit.probes.per_sample_moments import covered
from cockpit.probes.probe import Collector, Probe, Reduction, Surroundings

ENOUGH = 1 << 12
"""Elements of a network that are looked at: with 128 samples a quarter of a million differences."""

_OF_EACH = 64
"""Elements of a parameter, at least, as far as it has them."""


@dataclass(frozen=True)
class Elements:
    """Elements of vectors as large as the network; float64 on the host.

    Args:
        rows: One for each vector. Shape ``[N, d]``.
        columns: Which of them belong to which parameter, by name, in the model's order.
    """

    rows: Tensor
    columns: dict[str, slice]

    @classmethod
    def of(cls, by_name: dict[str, Tensor]) -> Elements:
        """Puts parameters side by side.

        Args:
            by_name: Shape ``[N, d_p]`` each; at least one.
        """
        columns, start = {}, 0
        for name, rows in by_name.items():
            columns[name] = slice(start, start + rows.shape[1])
            start += rows.shape[1]
        return cls(torch.cat([rows.double() for rows in by_name.values()], dim=1).cpu(), columns)


def places_in(table: ParameterTable, index: int) -> Tensor:
    """Which elements of a parameter to look at, as if it had one axis: its share of :data:`ENOUGH`, in equal steps."""
    tensor = table[index].tensor
    numel = tensor.numel()
    count = min(numel, max(_OF_EACH, ENOUGH * numel // table.numel))
    places: Tensor = torch.arange(count, device=tensor.device) * numel // count
    return places


@dataclass(frozen=True)
class SampledElements(Probe[Elements]):
    """Of the unscaled individual gradients ``g_n``, those of samples that have a loss."""

    individual: ClassVar[bool] = True

    def collector(self, surroundings: Surroundings) -> Collector[Elements]:
        """Begins a step."""
        return _ElementsCollector(surroundings)


class _ElementsReduction(Reduction):
    """The elements of one parameter.

    Args:
        gradients: Its individual gradients, raw.
        places: Which.
    """

    def __init__(self, gradients: SampleGradients, places: Tensor) -> None:
        self._gradients: SampleGradients | None = gradients
        self._places = places
        self._pieces: list[Tensor] = []

    def closed(self) -> bool:
        """Where single elements can be had."""
        assert self._gradients is not None
        found = self._gradients.elements(self._places)
        self._pieces = [] if found is None else [found]
        return found is not None

    def rows(self, start: int, rows: Tensor) -> None:
        """Picks them from the rows."""
        self._pieces.append(rows[:, self._places])

    def finish(self) -> None:
        """Lets go of the gradients."""
        self._gradients = None

    def found(self) -> Tensor:
        """Shape ``[N, d]``."""
        return self._pieces[0] if len(self._pieces) == 1 else torch.cat(self._pieces)


class _ElementsCollector(Collector[Elements]):
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._places: dict[int, Tensor] = {}
        self._open: dict[int, _ElementsReduction] = {}
        self._passes: list[tuple[BackwardPass, dict[int, _ElementsReduction]]] = []

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        if index not in self._places:
            self._places[index] = places_in(self._surroundings.table, index)
        self._open[index] = _ElementsReduction(gradients, self._places[index])
        return self._open[index]

    def end_pass(self, backward: BackwardPass) -> None:
        self._passes.append((backward, self._open))
        self._open = {}

    def result(self) -> Elements:
        if not self._passes:
            raise Unavailable("no backward pass was seen")
        table = self._surroundings.table
        indices = covered(self._surroundings, self._places)
        return Elements.of({table[i].name: torch.cat([self._rows(i, *each) for each in self._passes]) for i in indices})

    def _rows(self, index: int, backward: BackwardPass, found: dict[int, _ElementsReduction]) -> Tensor:
        """One pass's, unscaled; zero where it did not use the parameter."""
        factors, counted = backward.factors(), backward.weights() > 0
        if index not in found:
            return factors.new_zeros(int(counted.sum()), len(self._places[index]))
        rows = found[index].found().double() * factors.to(self._places[index].device).unsqueeze(1)
        return rows[counted.to(rows.device)]
