"""Cosine between update and gradient: does the optimizer go where the gradient points?"""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.gradient_dots import GradientDots
from cockpit.probes.gradient_norms import GradientNorms
from cockpit.probes.movement import UpdateNorms
from cockpit.reading import Reading
from cockpit.step import Step


def cosine(dot: float, left: float, right: float) -> float | None:
    r"""Cosine of the angle between two vectors.

    Args:
        dot: Their inner product.
        left: Norm of the one.
        right: Norm of the other.

    Returns:
        :math:`\langle x, y \rangle / (\lVert x \rVert \lVert y \rVert)`, within [−1, 1] whatever rounding says; NaN
        where a vector is not finite, ``None`` where one is zero.

    Example:
        >>> cosine(-6.0, 2.0, 3.0)
        -1.0
    """
    if left == 0 or right == 0:
        return None
    value = dot / left / right
    return value if value != value else max(-1.0, min(1.0, value))


@register
class UpdateGradCosine(Instrument):
    """``cos(−s, g)``, over all parameters and for each; the cosine between this gradient and the next as a part.

    Args:
        track: When it is read. It looks at the step and at the one after it.
    """

    name = "update_grad_cosine"
    configuration = "economy"
    needs = (GradientDots, GradientNorms, UpdateNorms)
    window = 2
    panel = Panel(
        title="Update along gradient",
        kind="lines",
        keys=("update_grad_cosine", "update_grad_cosine.next_gradient"),
        group="steps",
        references=((0.0, ""),),
        how_to_read="1 is plain gradient descent; below 0 the update climbs this batch's loss. Consecutive gradients: "
        "near 1 they agree, below 0 they zigzag.",
        formula=r"\cos(-s, g) = -\frac{\langle s, g \rangle}{\lVert s \rVert \, \lVert g \rVert}"
        "\n"
        r"\text{next gradient} = \cos(g_t, g_{t+1})",
        good="Above 0 most of the time: 1 for plain gradient descent, less with momentum or preconditioning.",
        bad="Below 0 for long: the optimizer climbs the loss of its own batches, momentum carries it too far. "
        "Gradients that turn round from step to step: the learning rate is too large along some direction.",
        source="The step is the measured difference of the parameters, whatever optimizer made it.",
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        first, second = steps
        dots, gradients, updates = first[GradientDots], first[GradientNorms], first[UpdateNorms]
        norms, moves = gradients.by_layer(), updates.by_layer()
        if updates.total() == 0 or gradients.total() == 0:
            zero = "the gradient is zero" if updates.total() else "the parameters did not move"
            return Reading(None, parts=_with_next(first, second), reason=zero)
        layers = {name: cosine(-dot, norms[name], moves[name]) for name, dot in dots.step.items()}
        value = cosine(-sum(dots.step.values()), gradients.total(), updates.total())
        return Reading(value, layers, _with_next(first, second))


def _with_next(first: Step, second: Step) -> dict[str, float | dict[str, float | None] | None]:
    """``cos(g_{t+1}, g_t)``; missing where the next step tells no gradient."""
    dots = second[GradientDots].previous
    before, after = first[GradientNorms], second[GradientNorms]
    return {"next_gradient": cosine(sum(dots.values()), before.total(), after.total())}
