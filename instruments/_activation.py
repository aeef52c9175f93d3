"""Activations: do signals keep their size through the network, and which units are dead?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from cockpit.instrument import Instrument, register
from cockpit.layers import Combine
from cockpit.panel import Panel
from cockpit.probes.activations import Activations, Activity
from cockpit.reading import Reading
from cockpit.step import Step


def dead_share(modules: Mapping[str, Activity]) -> float:
    """Share of dead units among the activation functions' units; among all, where no module is such a function.

    Args:
        modules: At least one.
    """
    functions = [module for module in modules.values() if not module.weighted] or list(modules.values())
    return sum(module.dead for module in functions) / sum(module.units for module in functions)


@register
class Activation(Instrument):
    """Share of units that are zero for every sample of the batch, for the network and by module; root mean square,
    mean, share of zeros and number of non-finite elements of each module's output as parts."""

    name = "activation"
    configuration = "economy"
    needs = (Activations,)
    combine: ClassVar[Mapping[str, Combine]] = {"non_finite": "sum"}
    panel = Panel(
        title="Dead units",
        kind="lines",
        group="data",
        ylabel="share of units",
        how_to_read="Units that no sample of the batch moves learn nothing; a share that grows asks for a smaller "
        "learning rate.",
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        modules = step[Activations]
        if not modules:
            return Reading(None, reason="no module with parameters and no activation module was called")
        return Reading(
            dead_share(modules),
            {name: module.dead / module.units for name, module in modules.items()},
            {
                "rms": {name: (module.squares / module.elements) ** 0.5 for name, module in modules.items()},
                "mean": {name: module.total / module.elements for name, module in modules.items()},
                "zeros": {name: module.zeros / module.elements for name, module in modules.items()},
                "non_finite": {name: module.broken for name, module in modules.items()},
            },
        )
