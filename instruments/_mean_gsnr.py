"""Mean gradient signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.coordinates import Coordinates
from cockpit.reading import Reading
from cockpit.step import Step


@register
class MeanGSNR(Instrument):
    r"""Mean over the coordinates that have variance of squared mean over variance of the individual gradients.

    .. math::
        \frac{1}{D} \sum_j \frac{g_j^2}{\frac{1}{N} \sum_n g_{nj}^2 - g_j^2}

    Liu et al., *Understanding why neural networks generalize well through GSNR of parameters* (2020); eq. (C.41) of the
    Cockpit paper. The share of coordinates without variance, which are left out, is the part ``left_out``.
    """

    name = "mean_gsnr"
    configuration = "business"
    needs = (Coordinates,)
    panel = Panel(
        title="Gradient signal-to-noise",
        kind="lines",
        group="generalisation",
        yscale="log",
        ylabel="mean GSNR",
        how_to_read="High early in training goes with good generalisation; 1/N is what pure noise gives.",
        formula=r"\frac{1}{D} \sum_j \frac{g_j^2}{\frac{1}{N} \sum_n g_{nj}^2 - g_j^2}",
        good="High in the first steps, then falling as the loss does.",
        bad="At 1/N and below from the start: samples have nothing in common that could be learned at this batch size.",
        source="Liu et al., Understanding why neural networks generalize well through GSNR of parameters (2020); eq. "
        "(C.41) of the Cockpit paper. The mean runs over the coordinates that have variance.",
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        sums = step[Coordinates]
        mean, left_out = sums.mean(sums.signal_to_noise)
        reason = "no coordinate of the gradient varies" if mean is None else None
        return Reading(mean, parts={"left_out": left_out}, reason=reason)
