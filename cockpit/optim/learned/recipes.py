"""The meta-trainings that ``cockpit meta-train`` knows by name."""

from __future__ import annotations

from collections.abc import Callable

from cockpit.optim.learned import lure, meta_sgd, mpt_lure
from cockpit.optim.learned.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "lure": lure.recipe,
    "mpt_lure": mpt_lure.recipe,
    "meta_sgd": meta_sgd.recipe,
}
"""By name, in the order in which they are listed."""
