"""Tail index of the gradient noise: does a Gaussian describe it, or are there samples that a Gaussian has not?"""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import LayerColumn, Panel
from cockpit.probes.sampled_elements import SampledElements
from cockpit.reading import Reading
from cockpit.readings.tail import tail_reading
from cockpit.step import Step


@register
class TailIndexGrad(Instrument):
    r"""Estimate of the index :math:`\alpha` of an α-stable distribution from differences of individual gradients: 2 for
    Gaussian noise, less for heavier tails. The same of Gaussian noise with the same covariance, the share of
    coordinates that vary and that of exact zeros as parts."""

    name = "tail_index_grad"
    needs = (SampledElements,)
    panel = Panel(
        title="Tail index of gradients",
        kind="lines",
        keys=("tail_index_grad", "tail_index_grad.gaussian"),
        group="gradients",
        references=((2.0, "Gaussian"),),
        how_to_read="2 is Gaussian noise; the lower, the more is it made of a few large deviations. As far as the "
        "Gaussian curve beside it is from 2, so far the value may be off.",
        formula=r"\frac{1}{\alpha} = \frac{\mathrm{E} \log |Y| - \mathrm{E} \log |X|}{\log K_1}, \qquad "
        r"Y = X_1 + \dots + X_{K_1}"
        "\n"
        r"X = g_{nj} - g_{n'j}",
        good="Between 1 and 2, and slowly changing: gradient noise of networks is heavy-tailed.",
        bad="Far below 1: single samples make the gradient; look at the gradient norm by sample, at labels and at the "
        "learning rate. A Gaussian curve far from 2: the coordinates depend on each other too much for a number.",
        source="Şimşekli et al., A tail-index analysis of stochastic gradient noise in deep neural networks (2019), "
        "with the estimator of Mohammadi et al. (2015); sums within one coordinate, exact zeros left out.",
        layers=(
            LayerColumn(
                "Tail index",
                "tail_index_grad",
                place=63,
                how_to_read="Tail index of the gradient noise: 2 is Gaussian, less is heavier.",
            ),
        ),
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        return tail_reading(step[SampledElements], step.index, "samples")
