"""A small meta-training of two tasks, by either way to meta-gradients."""

import pytest
from rules import TASK, MomentumRule

from cockpit.optim.learned import PES, Recipe, Sines, Unrolled

ESTIMATORS = {"unrolled": Unrolled(3), "PES": PES(3, 0.01)}


@pytest.fixture(params=ESTIMATORS)
def recipe(request):
    return Recipe(
        name="small",
        rule=MomentumRule(),
        tasks=(TASK, Sines(points=4, widths=(1, 2, 1))),
        estimator=ESTIMATORS[request.param],
        copies=4,
        horizon=8,
        iterations=6,
        clip=1.0,
        test=TASK,
        test_copies=2,
    )
