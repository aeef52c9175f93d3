"""The training that is watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from cockpit.capture.backward.assemble import Source
from cockpit.parameters import Displacement, ParameterTable


@dataclass(frozen=True)
class Watched:
    """What is watched.

    Args:
        model: The model.
        optimizers: Its optimizers.
        table: Those of its parameters that they hold.
        displacement: Measures how far these move; ``None`` if no instrument looks at that.
        source: Makes their individual gradients.
    """

    model: nn.Module
    optimizers: Sequence[Optimizer]
    table: ParameterTable
    displacement: Displacement | None
    source: Source

    def newcomers(self) -> tuple[str, ...]:
        """Parameters that training has taken up since."""
        return self.table.newcomers(self.model, self.optimizers)
