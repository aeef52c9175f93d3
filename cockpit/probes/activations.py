"""What the modules return: how large it is, and which units say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cockpit.capture.hooks.forward import ModuleOutput
from cockpit.kernels.activity import activity
from cockpit.probes.probe import Collector, Probe, Surroundings


@dataclass(frozen=True)
class Activity:
    """Sums over all that one module returned in a step.

    Args:
        weighted: Whether the module owns watched parameters.
        elements: How many numbers.
        total: Their sum.
        squares: Sum of their squares.
        zeros: How many are zero.
        broken: How many are not finite.
        units: Channels or features.
        dead: How many of these are zero for every sample, at every position.
    """

    weighted: bool
    elements: int
    total: float
    squares: float
    zeros: float
    broken: float
    units: int
    dead: int


@dataclass(frozen=True)
class Activations(Probe[Mapping[str, Activity]]):
    """By module, in the order in which they were called; see :class:`cockpit.capture.hooks.forward.ForwardWatch`."""

    outputs: ClassVar[bool] = True

    def collector(self, surroundings: Surroundings) -> Collector[Mapping[str, Activity]]:
        """Begins a step."""
        return _ActivationsCollector()


class _ActivationsCollector(Collector[Mapping[str, Activity]]):
    def __init__(self) -> None:
        self._weighted: dict[str, bool] = {}
        self._elements: dict[str, int] = {}
        self._sums: dict[str, list[Tensor]] = {}
        self._alive: dict[str, dict[int, Tensor]] = {}  # by number of units, which may differ from call to call

    def module_called(self, output: ModuleOutput) -> None:
        name, value = output.name, output.value
        if not value.is_floating_point() or value.numel() == 0 or value.dim() == 0:
            return
        units = value.shape[output.axis]
        alive = self._alive.setdefault(name, {})
        if units not in alive:
            alive[units] = torch.zeros(units, dtype=torch.bool, device=value.device)
        self._weighted[name] = output.weighted
        self._elements[name] = self._elements.get(name, 0) + value.numel()
        self._sums.setdefault(name, []).append(activity(value, output.axis, alive[units]))

    def result(self) -> Mapping[str, Activity]:
        if not self._sums:
            return {}
        sums = [sums[0] if len(sums) == 1 else torch.stack(sums).sum(0) for sums in self._sums.values()]
        alive = [mask.sum() for masks in self._alive.values() for mask in masks.values()]
        # One copy to the host, however many modules there are.
        everything = torch.cat([torch.cat(sums), torch.stack(alive).double()]).tolist()
        counts = iter(everything[4 * len(sums) :])
        found: dict[str, Activity] = {}
        for place, (name, masks) in enumerate(self._alive.items()):
            units = sum(masks)
            dead = units - int(sum(next(counts) for _ in masks))
            total, squares, zeros, broken = everything[4 * place : 4 * place + 4]
            found[name] = Activity(
                self._weighted[name], self._elements[name], total, squares, zeros, broken, units, dead
            )
        return found
