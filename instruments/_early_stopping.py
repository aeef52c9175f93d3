"""Early stopping without a validation set: is the gradient distinguishable from noise?"""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.coordinates import Coordinates
from cockpit.reading import Reading
from cockpit.step import Step


@register
class EarlyStopping(Instrument):
    r"""Evidence that the mini-batch gradient is nothing but noise, averaged over the coordinates that have variance.

    .. math::
        1 - \frac{N (N - 1)}{D} \sum_j \frac{g_j^2}{\sum_n g_{nj}^2 - N g_j^2}

    Mahsereci et al., *Early stopping without a validation set* (2017), eq. (10); eq. (C.11) of the Cockpit paper. The
    share of coordinates without variance, which are left out, is the part ``left_out``.
    """

    name = "early_stopping"
    configuration = "business"
    needs = (Coordinates,)
    panel = Panel(
        title="Early stopping",
        kind="lines",
        group="generalisation",
        ylabel="evidence",
        references=((0.0, "stop above"),),
        how_to_read="Below 0 the gradient still carries signal; steadily above 0, training only follows noise.",
        formula=r"1 - \frac{N (N - 1)}{D} \sum_j \frac{g_j^2}{\sum_n g_{nj}^2 - N g_j^2}",
        good="Below 0: the mini-batch gradient is larger than its noise explains.",
        bad="Above 0 for good: what training still follows is the noise of its data. Stop, or lower the learning rate.",
        source="Mahsereci et al., Early stopping without a validation set (2017), eq. (10); eq. (C.11) of the "
        "Cockpit paper. The mean runs over the coordinates that have variance.",
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        sums = step[Coordinates]
        mean, left_out = sums.mean(sums.evidence)
        reason = "no coordinate of the gradient varies" if mean is None else None
        return Reading(None if mean is None else 1 - mean, parts={"left_out": left_out}, reason=reason)
