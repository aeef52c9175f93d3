import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_postgres import Absent, Server, private_server


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Where the real data sets lie: ``COCKPIT_DATA``, or ``shared/data`` beside the checkout."""
    path = Path(os.environ.get("COCKPIT_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set COCKPIT_DATA to a folder with mnist/ and cifar10_subset.npz")
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of the tests' own; where there is none, its tests are skipped, or fail if it is required."""
    try:
        with private_server() as server:
            yield server
    except Absent as absent:
        if os.environ.get("COCKPIT_REQUIRE_POSTGRES") == "1":
            raise
        pytest.skip(f"{absent}")
