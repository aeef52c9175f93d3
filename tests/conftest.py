"""What all tests share, and how they are spread over processes."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from patience import LONG
from private_postgres import Absent, Server, private_server
from turns import take_turns

from cockpit.store import Writer, sqlite, writer

# No example is late, and none is another next time; --hypothesis-profile=default looks for new ones.
settings.load_profile("ci")

if "PYTEST_XDIST_WORKER" in os.environ:  # each core has a process of its own: threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """Two more than cores: tests of pages, processes and logs spend half of their time waiting."""
    return len(os.sched_getaffinity(0)) + 2 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 2


def pytest_configure(config: pytest.Config) -> None:
    """Files are handed out in the order below, where pytest-xdist would begin with those of the most tests."""
    take_turns(config)
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first, so that no process is left alone with one at the end; then what must be alone."""
    tests = Counter(item.path for item in items)
    slow, browser, alone = (
        {item.path for item in items if item.get_closest_marker(mark)} for mark in ("slow", "browser", "alone")
    )
    items.sort(
        key=lambda item: (
            item.path in alone, item.path not in slow, item.path not in browser, -tests[item.path], str(item.path)
        )
    )  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def patience() -> Iterator[None]:
    """What waits for a disk or another process waits as long as a busy machine takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer.flush, "__defaults__", (LONG,))
        patch.setattr(writer, "_CLOSE_PATIENCE", LONG)
        patch.setattr(sqlite, "_BUSY", LONG)
        yield


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
