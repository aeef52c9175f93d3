"""Activations: do signals keep their size through the network, and which units are dead?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from cockpit.instrument import Instrument, register
from cockpit.layers import Combine
from cockpit.panel import LayerColumn, Panel
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
        formula=r"\text{dead share} = \frac{\#\{\text{units that are zero for every sample}\}}{\#\{\text{units}\}}"
        "\n"
        r"\mathrm{RMS} = \sqrt{\mathrm{mean}_{n,i}\, x_{ni}^2}",
        good="A share that is small and stays; a root mean square of about the same size from layer to layer.",
        bad="A share that grows and never falls: the units have died, often after one step that was too large. A "
        "root mean square that shrinks or grows layer by layer: the initialisation does not keep the signal's "
        "size.",
        source="Counted from what the modules return in the forward pass, over all samples and positions of the "
        "mini-batch.",
        layers=(
            LayerColumn(
                "Dead units", "activation", place=40, how_to_read="Share of units that are zero for every sample."
            ),
            LayerColumn(
                "Activation RMS",
                "activation.rms",
                scale="log",
                place=50,
                how_to_read="Root mean square of the module's output.",
            ),
        ),
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
