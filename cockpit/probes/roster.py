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
        movement: Whether any needs the parameters' values around the step.
        second_order: Whether any needs the graph of the loss before it is walked.
        inputs: Whether any looks at what the model is called with.
        outputs: Whether any looks at what its modules return.
    """

    probes: tuple[Probe[Any], ...]
    sources: Mapping[Probe[Any], Probe[Any]]
    foundations: Mapping[Probe[Any], tuple[Probe[Any], ...]]
    individual: bool
    movement: bool
    second_order: bool
    inputs: bool
    outputs: bool

    @classmethod
    def of(cls, wanted: Iterable[Probe[Any]]) -> Roster:
        """What has to be collected for some probes.

        Args:
            wanted: The probes; what they build on need not be among them.
        """
        probes = [each for probe in wanted for each in (*probe.builds_on(), probe)]
        individual = any(probe.individual for probe in probes)
        if individual:
            # The moments tell whether individual gradients add up to the gradient; the others take their word for it.
            probes = [PerSampleMoments(), *probes]
        ordered = tuple(dict.fromkeys(probes))
        return cls(
            probes=ordered,
            sources={probe: other for probe in ordered for other in ordered if probe.contained_in(other)},
            foundations={probe: below for probe in ordered if (below := probe.builds_on())},
            individual=individual,
            movement=any(probe.movement for probe in ordered),
            second_order=any(probe.second_order for probe in ordered),
            inputs=any(probe.inputs for probe in ordered),
            outputs=any(probe.outputs for probe in ordered),
        )
