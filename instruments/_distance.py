"""Distance from the initial parameters: is training getting anywhere?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from cockpit.instrument import Instrument, register
from cockpit.layers import Combine
from cockpit.probes.movement import DistanceNorms
from cockpit.reading import Reading
from cockpit.step import Step


@register
class Distance(Instrument):
    r""":math:`\lVert \theta_t - \theta_0 \rVert_2`, over all parameters and for each."""

    name = "distance"
    configuration = "economy"
    needs = (DistanceNorms,)
    combine: ClassVar[Mapping[str, Combine]] = {"": "norm"}

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        norms = step[DistanceNorms]
        return Reading(norms.total(), norms.by_layer())
