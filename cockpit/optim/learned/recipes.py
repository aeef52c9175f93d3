"""The meta-trainings that ``cockpit meta-train`` knows by name."""

from __future__ import annotations

from collections.abc import Callable

from cockpit.datasets import Images
from cockpit.optim.learned import hierarchical, l2o_lstm, learned_adam, lure, meta_sgd, ml3, mpt_lure
from cockpit.optim.learned.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "lure": lure.recipe,
    "mpt_lure": mpt_lure.recipe,
    "meta_sgd": meta_sgd.recipe,
    "ml3": ml3.recipe,
    "sl": ml3.scaled_recipe,
    "l2o_lstm": l2o_lstm.recipe,
    "hierarchical": hierarchical.recipe,
    "learned_adam": learned_adam.recipe,
}
"""By name, in the order in which they are listed."""

OF_IMAGES: dict[str, Callable[[Images], Recipe]] = {
    "l2o_lstm": l2o_lstm.recipe,
    "hierarchical": hierarchical.recipe,
    "learned_adam": learned_adam.recipe,
}
"""Those that learn on images, of which others may be given."""
