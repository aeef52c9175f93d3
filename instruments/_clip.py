"""Gradient clipping: how often are gradients cut before they reach the optimizer, and how far?"""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.gradient_norms import GradientNorms
from cockpit.probes.optimizer_input import OptimizerInput
from cockpit.reading import Reading
from cockpit.schedule import Schedule
from cockpit.step import Step

_ROUNDING = 1e-5
"""A gradient that is unscaled, or whose norm is summed in another order, comes out shorter by less than this share."""

_ALIKE = 1e-3
"""Clipped norms that differ by less are cut to the same threshold."""


def share_left(given: float, before: float, loss_scale: float, eps: float) -> float:
    """Share of the gradient's norm that reaches the optimizer.

    Args:
        given: Norm that the optimizer finds.
        before: Norm that the backward pass left.
        loss_scale: What a gradient scaler had multiplied the loss with, and takes back in between; 1 without one.
        eps: Rounding of the gradients' precision.

    Returns:
        The share: 1 where it is 1 up to rounding, with the loss scale taken back or not.

    Example:
        >>> share_left(given=0.5, before=1024.0, loss_scale=1024.0, eps=1e-7)
        0.5
    """
    tolerance = max(_ROUNDING, 4 * eps)
    for share in (given / before, given / before * loss_scale):
        if abs(share - 1) <= tolerance:
            return 1.0
    return given / before * loss_scale


@register
class Clip(Instrument):
    """1 where the optimizer is given a shorter gradient than the backward pass left, else 0: the mean over steps is the
    share of steps clipped. How much of the norm is left, and the norm itself, as parts; so is the norm that gradients
    are cut to, once two in a row were cut to the same.

    Missing until something is done to the gradients of a step for the first time.
    """

    name = "clip"
    configuration = "economy"
    needs = (OptimizerInput, GradientNorms)
    panel = Panel(
        title="Clipping",
        kind="lines",
        keys=("clip", "clip.left", "clip.norm"),
        group="gradients",
        optional=True,
        how_to_read="The smoothed curve of clip is the share of steps clipped: near 1, the clip threshold sets the "
        "step, not the gradient.",
        formula=r"\text{clip} = 1 \; \text{where} \; \lVert g_{\text{given}} \rVert < \lVert g \rVert"
        "\n"
        r"\text{left} = \frac{\lVert g_{\text{given}} \rVert}{\lVert g \rVert}, \qquad "
        r"\text{norm} = \lVert g_{\text{given}} \rVert",
        good="Few steps clipped, at single spikes of the gradient.",
        bad="Nearly every step clipped: the threshold is the learning rate now. Raise it, or lower the learning rate.",
        source="Norms of the gradient as the backward pass left it, and as the optimizer was given it.",
    )

    def __init__(self, *, track: int | Schedule | None = None) -> None:
        super().__init__(track=track)
        self._in_use = False
        self._cut_to: float | None = None  # the norm of the last gradient that was clipped
        self._threshold: float | None = None

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        given, norms = step[OptimizerInput], step[GradientNorms]
        self._in_use = self._in_use or (given is not None and given.norm is not None)
        if given is None or not self._in_use:
            return Reading(None, reason="no optimizer stepped" if self._in_use else None)
        before = norms.total() * abs(given.scale) if given.left is None else given.left
        if given.norm is None:
            return Reading(0.0, parts={"left": 1.0, "norm": before / given.loss_scale})
        if before == 0:
            return Reading(None, reason="the gradient is zero")
        left = share_left(given.norm, before, given.loss_scale, given.eps)
        clipped = left if left != left else float(left < 1)
        parts = {"left": left, "norm": given.norm}
        if clipped == 1:
            agrees = self._cut_to is not None and abs(given.norm - self._cut_to) <= _ALIKE * given.norm
            self._cut_to, self._threshold = given.norm, given.norm if agrees else None
        if self._threshold is not None:
            parts["threshold"] = self._threshold
        return Reading(clipped, parts=parts)
