"""Trace of the Hessian: how curved is the loss, all directions together?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from cockpit.instrument import Instrument, register
from cockpit.layers import Combine
from cockpit.panel import LayerColumn, Panel
from cockpit.probes.curvature import Method
from cockpit.probes.curvature_blocks import CurvatureBlocks
from cockpit.probes.handed_diagonal import HandedDiagonal
from cockpit.reading import Reading
from cockpit.schedule import Schedule
from cockpit.step import Step


@register
class HessTrace(Instrument):
    r"""Trace of the Hessian of the mini-batch loss, or of its generalised Gauss-Newton matrix.

    .. math::
        \mathrm{Tr}\, H = \sum_j \frac{\partial^2 L}{\partial \theta_j^2}

    Also per parameter. The part ``error`` is the standard error of an estimate: 0 where the trace is exact; for a
    single draw of ``ggn_mc`` what the spread over the samples says of it at most; missing for one of ``hutchinson``,
    which does not tell. ``layer_error`` holds those of the parameters, ``draws`` how many were made.

    Args:
        curvature: ``hessian``, the exact Hessian; ``hutchinson``, an unbiased estimate of its trace for any model;
            ``ggn``, the exact Gauss-Newton matrix; ``ggn_mc``, an unbiased estimate of its trace, the cheapest.
        draws: Independent draws of an estimate.
        diagonal: Whether ``step.diagonal(optimizer)`` hands the diagonal over to an optimizer of second order, in every
            step that is read.
        track: When it is read.

    Raises:
        ValueError: For another curvature, less than one draw, or several of what is exact.
    """

    name = "hess_trace"
    configuration = "business"
    combine: ClassVar[Mapping[str, Combine]] = {"": "sum"}
    panel = Panel(
        title="Hessian trace",
        kind="lines",
        group="curvature",
        yscale="log",
        ylabel="trace",
        how_to_read="A rising trace means sharper valleys: a learning rate that was fine may become too large.",
        formula=r"\mathrm{Tr}\, H = \sum_j \frac{\partial^2 L}{\partial \theta_j^2}",
        good="A trace that falls or settles: the valley becomes wider.",
        bad="A trace that rises by orders of magnitude: sharper valleys, in which a learning rate that was fine "
        "becomes too large. A layer that holds nearly all of it limits the learning rate of all.",
        source="Schneider et al., Cockpit: a practical debugging tool for the training of deep neural networks "
        "(2021), section 7.2.2. The Gauss-Newton matrix in place of the Hessian: Schraudolph, Fast curvature "
        "matrix-vector products (2002).",
        layers=(
            LayerColumn(
                "Curvature share",
                "hess_trace",
                share=True,
                place=60,
                how_to_read="Share of the trace over all parameters.",
            ),
        ),
    )

    def __init__(
        self,
        curvature: Method = "ggn_mc",
        draws: int = 1,
        diagonal: bool = False,
        *,
        track: int | Schedule | None = None,
    ) -> None:
        super().__init__(track=track)
        self._blocks = CurvatureBlocks(curvature, draws)
        self.needs = (self._blocks, HandedDiagonal(self._blocks)) if diagonal else (self._blocks,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        found = step[self._blocks]
        parts = {
            "error": found.total_error(),
            "layer_error": found.errors_by_layer(),
            "draws": None if found.exact else float(len(found.draws)),
        }
        return Reading(found.total(), layers=found.by_layer(), parts=parts, reason=found.note or None)
