"""An optimizer that scales the loss, its plain twin, and their settings."""

import pytest
from twins import PAIRS


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]
