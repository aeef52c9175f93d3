"""What all tests share, and how they are spread over processes."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_postgres import Absent, Server, private_server

if "PYTEST_XDIST_WORKER" in os.environ:  # each core has a process of its own: threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """Two more than cores: tests of pages, processes and logs spend half of their time waiting."""
    return len(os.sched_getaffinity(0)) + 2 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 2


def pytest_configure(config: pytest.Config) -> None:
    """Files are handed out in the order below, where pytest-xdist would begin with those of the most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first, so that no process is left alone with one at the end."""
    tests = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    browser = {item.path for item in items if item.get_closest_marker("browser")}
    items.sort(key=lambda item: (item.path not in slow, item.path not in browser, -tests[item.path], str(item.path)))


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
