"""Size of the step relative to the weights it changes."""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import LayerColumn, Panel
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
        formula=r"\frac{\lVert s \rVert_2}{\lVert \theta(t) \rVert_2}, \qquad s = \theta(t+1) - \theta(t)",
        good="About 0.001 in every layer, slowly falling with the learning rate.",
        bad="Above 0.01: the network is rewritten within a hundred steps. Below 0.00001, or 0 in one layer: it is "
        "frozen, whatever its gradient.",
        source="A rule of thumb among practitioners; the step is the measured difference of the parameters.",
        layers=(
            LayerColumn(
                "Update / weight",
                "update_weight_ratio",
                scale="log",
                place=10,
                how_to_read="Length of the step over that of the weights: about 0.001 is often healthy.",
            ),
        ),
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        updates, weights = step[UpdateNorms], step[WeightNorms]
        own = weights.by_layer()
        layers = {name: ratio(update, own[name]) for name, update in updates.by_layer().items()}
        return Reading(ratio(updates.total(), weights.total()), layers)
