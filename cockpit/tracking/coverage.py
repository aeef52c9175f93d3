"""Which share of the parameters the individual gradients cover, and why the rest is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cockpit.probes.probe import Surroundings


@dataclass(frozen=True)
class Coverage:
    """Coverage of one step.

    Args:
        share: Elements of covered parameters over elements of all watched ones.
        left_out: Reason for each parameter that is not covered.
        coupled: Whether samples reach each other's activations, as below a train-mode BatchNorm; an individual gradient
            is then the sample's contribution through its own activations.
        routes: Share that each route served: ``modules`` from calls of modules, by closed forms; ``graph`` where the
            graph behind the loss uses a parameter; ``vmap`` by calling its module again.
    """

    share: float
    left_out: tuple[tuple[str, str], ...]
    coupled: bool
    routes: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, surroundings: Surroundings, coupled: bool) -> Coverage:
        """What a finished step says."""
        table = surroundings.table
        left_out = {table[i].name: reason for i, reason in sorted(surroundings.left_out.items())}
        missing = sum(table[i].tensor.numel() for i in surroundings.left_out)
        for name in table.unheld:
            left_out[name] = "no optimizer holds it"
        total = table.numel + table.unheld_numel
        served: dict[str, int] = {}
        for i, route in sorted(surroundings.routes.items()):
            if i not in surroundings.left_out:
                served[route] = served.get(route, 0) + table[i].tensor.numel()
        routes = tuple((route, numel / total) for route, numel in sorted(served.items()))
        return cls(1 - (missing + table.unheld_numel) / total, tuple(left_out.items()), coupled, routes)

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the log."""
        return {
            "share": self.share,
            "left_out": dict(self.left_out),
            "coupled": self.coupled,
            "routes": dict(self.routes),
        }

    def __str__(self) -> str:
        # Rounded down: "100 %" is said only of all of them.
        return f"{int(100 * self.share)} % of parameters"
