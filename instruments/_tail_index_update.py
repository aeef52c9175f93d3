"""Tail index of the noise in updates: does the optimizer pass large deviations on, or hold them back?"""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import LayerColumn, Panel
from cockpit.probes.trial_steps import PARTS, TrialSteps
from cockpit.reading import Reading
from cockpit.readings.tail import tail_reading
from cockpit.schedule import Schedule
from cockpit.step import Step


@register
class TailIndexUpdate(Instrument):
    r"""As :class:`TailIndexGrad`, of the steps that the optimizer would make of parts of the mini-batch.

    Args:
        parts: How many; each is tried on copies of the parameters and of the optimizer's state.
        track: When it is read.

    Raises:
        ValueError: For fewer than 4 parts.
    """

    name = "tail_index_update"
    panel = Panel(
        title="Tail index of updates",
        kind="lines",
        keys=("tail_index_update", "tail_index_update.gaussian"),
        group="steps",
        references=((2.0, "Gaussian"),),
        how_to_read="2 is Gaussian noise; above the tail index of the gradients the optimizer holds large deviations "
        "back. As far as the Gaussian curve beside it is from 2, so far the value may be off.",
        formula=r"\frac{1}{\alpha} = \frac{\mathrm{E} \log |Y| - \mathrm{E} \log |X|}{\log K_1}, \qquad "
        r"Y = X_1 + \dots + X_{K_1}"
        "\n"
        r"X = s_{mj} - s_{m'j}",
        good="At the gradients' own for gradient descent; nearer to 2 for optimizers that divide by the size of the "
        "gradient.",
        bad="Far below that of the gradients: the optimizer makes more of single samples than they are.",
        source="Sobotka and Šimánek, Investigation into training dynamics of learned optimizers, with the estimator of "
        "Mohammadi et al. (2015). The steps are tried on copies, from the same parameters and state.",
        layers=(
            LayerColumn(
                "Update tail index",
                "tail_index_update",
                place=64,
                how_to_read="Tail index of the updates' noise: 2 is Gaussian, less is heavier.",
            ),
        ),
    )

    def __init__(self, parts: int = PARTS, *, track: int | Schedule | None = None) -> None:
        super().__init__(track=track)
        if parts < 4:
            raise ValueError(f"a tail index needs at least parts=4, got {parts}")
        self._probe = TrialSteps(parts)
        self.needs = (self._probe,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        return tail_reading(step[self._probe].elements, step.index, "parts of the mini-batch")
