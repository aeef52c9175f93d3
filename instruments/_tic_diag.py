"""Takeuchi's information criterion, coordinate by coordinate."""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.curvature import Method
from cockpit.probes.curvature_blocks import CurvatureBlocks
from cockpit.probes.takeuchi import ENOUGH, Takeuchi
from cockpit.reading import Reading
from cockpit.schedule import Schedule
from cockpit.step import Step


@register
class TICDiag(Instrument):
    r"""Second moments of the individual gradients over the diagonal of the curvature.

    .. math::
        \frac{1}{N} \sum_j H_{jj}^{-1} \sum_n g_{nj}^2

    Thomas et al., *On the interplay between noise and curvature and its effect on optimization and generalization*
    (2020); eq. (C.38) of the Cockpit paper. Also per parameter. An estimated curvature is averaged over the steps that
    are read, at least 16 draws of it: the part ``draws`` counts them. Coordinates that are not curved are left out;
    their share is the part ``left_out``.

    Args:
        curvature: As for :class:`~cockpit.instruments.HessTrace`.
        draws: Independent draws of an estimate at every step that is read.
        track: When it is read.

    Raises:
        ValueError: For another curvature, less than one draw, or several of what is exact.
    """

    name = "tic_diag"
    configuration = "business"
    panel = Panel(
        title="TIC, by coordinates",
        kind="lines",
        group="generalisation",
        yscale="log",
        ylabel="gradient noise / curvature",
        how_to_read="An estimate, up to 1/N, of the generalisation gap: when it rises, the network begins to overfit.",
        formula=r"\frac{1}{N} \sum_j \frac{1}{H_{jj}} \sum_n g_{nj}^2",
        good="Falling or level: individual gradients shrink along with the curvature.",
        bad="Rising while the loss falls: the network fits single samples. Stop earlier, or regularise.",
        source="Thomas et al., On the interplay between noise and curvature and its effect on optimization and "
        "generalization (2020); eq. (C.38) of the Cockpit paper. An estimated curvature is averaged over the "
        "steps that are read.",
    )

    def __init__(self, curvature: Method = "ggn_mc", draws: int = 1, *, track: int | Schedule | None = None) -> None:
        super().__init__(track=track)
        self._sums = Takeuchi(CurvatureBlocks(curvature, draws))
        self.needs = (self._sums,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        sums = step[self._sums]
        parts = {"draws": None if sums.draws is None else float(sums.draws)}
        if not sums.ready:
            return Reading(None, parts=parts, reason=f"the curvature is not averaged over {ENOUGH} draws yet")
        curved = float(sums.curved.sum())
        parts["left_out"] = 1 - curved / float(sums.numel.sum())
        if not curved:
            return Reading(None, parts=parts, reason="the loss is not curved along any coordinate")
        layers = dict(zip(sums.names, sums.ratios.tolist(), strict=True))
        return Reading(float(sums.ratios.sum()), layers=layers, parts=parts)
