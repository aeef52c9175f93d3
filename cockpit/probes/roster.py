"""Which probes are collected together: worked out once for all steps that the same instruments look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.probes.probe import Probe


@dataclass(frozen=True)
class Roster:
    """Probes, each once, in the order in which they begin.

    Args:
        probes: All of them.
        sources: Of those that another one's result contains, that other one.
        foundations: What each builds on, where that is anything.
        individual: Whether any of them needs individual gradients.
        checked: Whether one of them sees to it that these add up to the gradient, on behalf of all.
        movement: Whether any needs the parameters' values around the step.
        second_order: Whether any needs the graph of the loss before it is walked.
        inputs: Whether any looks at what the model is called with.
        outputs: Whether any looks at what its modules return.
    """

    probes: tuple[Probe[Any], ...]
    sources: Mapping[Probe[Any], Probe[Any]]
    foundations: Mapping[Probe[Any], tuple[Probe[Any], ...]]
    individual: bool
    checked: bool
    movement: bool
    second_order: bool
    inputs: bool
    outputs: bool

    @classmethod
    def of(cls, wanted: Iterable[Probe[Any]], ending: Iterable[Probe[Any]] = ()) -> Roster:
        """What has to be collected for some probes.

        Args:
            wanted: The probes; what they build on need not be among them.
            ending: Those for windows that began with an earlier step.
        """
        first, last = (with_foundations(some) for some in (wanted, ending))
        probes = [*first, *last]
        individual = any(probe.individual for probe in probes)
        checked = needs_check(first, last)
        if checked:
            probes = [PerSampleMoments(), *probes]
        ordered = tuple(dict.fromkeys(probes))
        return cls(
            probes=ordered,
            sources={probe: other for probe in ordered for other in ordered if probe.contained_in(other)},
            foundations={probe: below for probe in ordered if (below := probe.builds_on())},
            individual=individual,
            checked=checked,
            movement=any(probe.movement for probe in ordered),
            second_order=any(probe.second_order for probe in ordered),
            inputs=any(probe.inputs for probe in ordered),
            outputs=any(probe.outputs for probe in ordered),
        )


def with_foundations(probes: Iterable[Probe[Any]]) -> list[Probe[Any]]:
    """The probes, each after those that it builds on."""
    return [each for probe in probes for each in (*probe.builds_on(), probe)]


def needs_check(wanted: Iterable[Probe[Any]], ending: Iterable[Probe[Any]]) -> bool:
    """Whether the moments have to tell if individual gradients add up to the gradient; all take their word for it.

    Args:
        wanted: Probes for windows that begin with the step.
        ending: Those for windows that began earlier.
    """
    return any(probe.individual for probe in wanted) or any(p.individual and not p.sums_up for p in ending)
