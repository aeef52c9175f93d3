"""Tests marked ``alone`` measure time or memory: while one of them runs, no other test does, in whichever process."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    import fcntl
except ImportError:  # Windows, where what measures has company
    fcntl = None


class Turns:
    """A plugin for one of several processes that run tests: a test holds a lock, shared with others if it is not alone.

    Who waits for a lock of their own gets it when nobody else has one: at the end, where these tests are put.

    Args:
        testrun: What the processes of a run have in common.
    """

    def __init__(self, testrun: str) -> None:
        self._path = Path(tempfile.gettempdir()) / f"cockpit-tests-{testrun}"
        self._file = self._path.open("a")  # all are open before the first test

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def pytest_unconfigure(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def take_turns(config: pytest.Config) -> None:
    """Lets the tests of this process take turns with those of the others, if there are any."""
    testrun = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if testrun is not None and fcntl is not None:
        config.pluginmanager.register(Turns(testrun))
