"""Size of the step relative to the weights it changes."""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.movement import UpdateNorms, WeightNorms
from cockpit.reading import Reading
from cockpit.step import Step


def ratio(update: float, weight: float) -> float | None:
    """``‖s‖ / ‖θ‖``; ``None`` where the weights are all zero, as fresh biases are."""
    return update / weight if weight > 0 else None


@register
class UpdateWeightRatio(Instrument):
    r""":math:`\lVert s \rVert_2 / \lVert \theta_t \rVert_2`, over all parameters and for each."""

    name = "update_weight_ratio"
    configuration = "economy"
    needs = (UpdateNorms, WeightNorms)
    panel = Panel(
        title="Update over weight",
        kind="lines",
        group="steps",
        yscale="log",
        ylabel="‖s‖ / ‖θ‖",
        references=((1e-3, "often healthy"),),
        how_to_read="About 0.001 is often healthy; far less means a frozen network, far more means one that jumps.",
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        updates, weights = step[UpdateNorms], step[WeightNorms]
        own = weights.by_layer()
        layers = {name: ratio(update, own[name]) for name, update in updates.by_layer().items()}
        return Reading(ratio(updates.total(), weights.total()), layers)
