"""Seconds since the run began."""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.step import Step


@register
class Time(Instrument):
    """When the step ended, in seconds since the run began."""

    name = "time"
    configuration = "economy"
    panel = Panel(
        title="Time",
        kind="lines",
        group="bottom",
        ylabel="seconds",
        how_to_read="A straight line is a steady pace; a bend upwards is training that slows down.",
        formula=r"t - t_0",
        good="A straight line: every step takes as long as the one before.",
        bad="A bend upwards: steps become slower. Data that is not ready in time, another process, a machine that "
        "throttles.",
        source="Seconds on a clock that never goes backwards, since the run began.",
    )

    def compute(self, steps: Sequence[Step]) -> float:
        (step,) = steps
        return step.time
