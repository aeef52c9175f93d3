"""Takeuchi's information criterion from two traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from cockpit.instrument import Instrument, register
from cockpit.layers import Combine
from cockpit.panel import Panel
from cockpit.probes.curvature import Method
from cockpit.probes.curvature_blocks import CurvatureBlocks
from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.reading import Reading
from cockpit.schedule import Schedule
from cockpit.statistics import mean
from cockpit.step import Step


@register
class TICTrace(Instrument):
    r"""Second moment of the individual gradients over curvature, both as traces.

    .. math::
        \frac{\frac{1}{N} \sum_n \lVert g_n \rVert^2}{\mathrm{Tr}\, H}

    Thomas et al., *On the interplay between noise and curvature and its effect on optimization and generalization*
    (2020); eq. (C.37) of the Cockpit paper. Both terms stand beside it per parameter, as ``mean_sq_norm`` and
    ``hess_trace``, and are those of the parameters that have individual gradients.

    Args:
        curvature: As for :class:`~cockpit.instruments.HessTrace`.
        draws: Independent draws of an estimate.
        track: When it is read.

    Raises:
        ValueError: For another curvature, less than one draw, or several of what is exact.
    """

    name = "tic_trace"
    configuration = "business"
    combine: ClassVar[Mapping[str, Combine]] = {"mean_sq_norm": "sum", "hess_trace": "sum"}
    panel = Panel(
        title="TIC, by traces",
        kind="lines",
        group="generalisation",
        yscale="log",
        ylabel="gradient noise / curvature",
        how_to_read="An estimate, up to 1/N, of the generalisation gap: when it rises, the network begins to overfit.",
        formula=r"\frac{\frac{1}{N} \sum_n \lVert g_n \rVert^2}{\mathrm{Tr}\, H}",
        good="Falling or level: individual gradients shrink along with the curvature.",
        bad="Rising while the loss falls: the network fits single samples. Stop earlier, or regularise.",
        source="Thomas et al., On the interplay between noise and curvature and its effect on optimization and "
        "generalization (2020); eq. (C.37) of the Cockpit paper.",
    )

    def __init__(self, curvature: Method = "ggn_mc", draws: int = 1, *, track: int | Schedule | None = None) -> None:
        super().__init__(track=track)
        self._blocks = CurvatureBlocks(curvature, draws)
        self.needs = (PerSampleMoments, self._blocks)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        moments, traces = step[PerSampleMoments], step[self._blocks].by_layer()
        second = dict(zip(moments.names, mean(moments.layer_sq_norms, moments.weights).tolist(), strict=True))
        curved = {name: traces[name] for name in moments.names}
        parts = {"mean_sq_norm": second, "hess_trace": curved}
        trace = sum(curved.values())
        if trace <= 0:
            return Reading(None, parts=parts, reason="the trace of the curvature is not positive")
        return Reading(sum(second.values()) / trace, parts=parts)
