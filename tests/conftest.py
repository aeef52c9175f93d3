import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Where the real data sets lie: ``COCKPIT_DATA``, or ``shared/data`` beside the checkout."""
    path = Path(os.environ.get("COCKPIT_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set COCKPIT_DATA to a folder with mnist/ and cifar10_subset.npz")
    return path
