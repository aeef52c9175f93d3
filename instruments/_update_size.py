"""Size of the step that the optimizer really made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from cockpit.instrument import Instrument, register
from cockpit.layers import Combine
from cockpit.probes.movement import UpdateNorms
from cockpit.reading import Reading
from cockpit.step import Step


@register
class UpdateSize(Instrument):
    r""":math:`\lVert \theta_{t+1} - \theta_t \rVert_2`, measured, over all parameters and for each."""

    name = "update_size"
    configuration = "economy"
    needs = (UpdateNorms,)
    combine: ClassVar[Mapping[str, Combine]] = {"": "norm"}

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        norms = step[UpdateNorms]
        return Reading(norms.total(), norms.by_layer())
