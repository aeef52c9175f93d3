"""A tracked step, as instruments see it once it is over: numbers on the host, and nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from cockpit.capture.losses.loss_call import IndividualLosses
from cockpit.capture.unavailable import Unavailable
from cockpit.probes.probe import Probe, default

Result = TypeVar("Result")


@dataclass(frozen=True)
class Step:
    """What is left of a tracked step.

    Args:
        index: Number of the step, counted from 0.
        time: Seconds since the run began, at the step's end.
        loss: The user's number: a mean or a sum, as it was computed; ``None`` if no backward pass was seen.
        samples: Batch size; ``None`` if it was not found.
        learning_rates: By parameter, as the optimizers state them; those are left out that state no number.
        chance: The loss of somebody who holds all classes for equally likely; ``None`` where it is no classification,
            or where more than its loss was added up.
        stable_below: The Hessian's largest eigenvalue at which the optimizer does not diverge; ``None`` where it is not
            the Hessian alone that decides.
        objective_scale: What the optimizer minimises is so many times the mean loss: ``N`` where it is a sum over ``N``
            samples. A loss scale that is taken back is not in it. ``None`` where it is not known.
    """

    index: int
    time: float
    loss: float | None
    samples: int | None
    learning_rates: Mapping[str, float]
    _individual: IndividualLosses | Unavailable = field(repr=False)
    _results: Mapping[Probe[Any], Any] = field(repr=False)
    chance: float | None = None
    stable_below: float | None = None
    objective_scale: float | None = 1.0

    @property
    def losses(self) -> Tensor:
        """Individual losses ``l_n``, float64 on the host, shape ``[N]``.

        Raises:
            Unavailable: With the reason why they are not known.
        """
        return self._known().values

    @property
    def weights(self) -> Tensor:
        """Weights ``w_n`` of the individual losses in their mean, adding up to 1, shape ``[N]``.

        Raises:
            Unavailable: As :attr:`losses`.
        """
        return self._known().weights

    def _known(self) -> IndividualLosses:
        if isinstance(self._individual, Unavailable):
            raise self._individual
        return self._individual

    def __getitem__(self, probe: type[Probe[Result]] | Probe[Result]) -> Result:
        """A probe's result; a class stands for the probe with its default settings.

        Raises:
            Unavailable: With the reason why it could not be computed.
            KeyError: If no instrument that was due needs the probe.
        """
        key = default(probe) if isinstance(probe, type) else probe
        try:
            result = self._results[key]
        except KeyError:
            raise KeyError(
                f"{key} was not collected in step {self.index}; name it in the instrument's 'needs'"
            ) from None
        if isinstance(result, Unavailable):
            raise result
        return result  # type: ignore[no-any-return]
