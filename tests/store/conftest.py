import itertools
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import backends
import pytest

from cockpit.store import Header, Writer, place

Start = Callable[..., Writer]
Child = Callable[..., "subprocess.Popen[str]"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Modules with ``EVERY_DATABASE = True`` say what holds of each; single tests of theirs may be about files."""
    everywhere = getattr(metafunc.module, "EVERY_DATABASE", False)
    if "backend" in metafunc.fixturenames and everywhere and not metafunc.definition.get_closest_marker("files"):
        metafunc.parametrize("backend", backends.NAMES, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> backends.Backend:
    """Where the test's runs go: below ``tmp_path``, unless the test is one for every database.

    Modules with ``DATABASE = "segments"`` are about that one alone.
    """
    name = getattr(request, "param", getattr(request.module, "DATABASE", "file"))
    if name == "postgresql":
        return backends.Postgres(request.getfixturevalue("postgres"))
    if name == "file":
        return backends.Files(tmp_path)
    request.getfixturevalue("monkeypatch").setattr(place, "mounts_text", lambda: backends.ON_A_NETWORK)
    return backends.Segments(tmp_path)


@pytest.fixture(scope="session", params=backends.NAMES)
def somewhere(request: pytest.FixtureRequest) -> backends.Somewhere:
    """``with somewhere() as place:`` is a place for one run that is not there yet, as often as a test needs one."""
    if request.param == "file":
        return tempfile.TemporaryDirectory
    if request.param == "segments":
        return _on_a_network
    address, names = request.getfixturevalue("postgres").empty(), itertools.count()
    return lambda: nullcontext(f"{address}/{next(names)}")


@contextmanager
def _on_a_network() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        patch.setattr(place, "mounts_text", lambda: backends.ON_A_NETWORK)
        yield directory


@pytest.fixture
def start(backend: backends.Backend) -> Iterator[Start]:
    """``start(name, **options)`` begins a run that the test's end closes."""
    writers = []

    def begin(name: str = "run", **options: Any) -> Writer:
        header = options.pop("header", Header(name, created=1.7e9))
        writers.append(Writer(backend.place(name), header, **{"flush_interval": 0.05, **options}))
        return writers[-1]

    yield begin
    for writer in writers:
        writer.close()


@pytest.fixture
def child() -> Iterator[Child]:
    """``child(code, *arguments)`` starts a Python process of its own; the test's end kills what is left of it."""
    processes = []

    def begin(code: str, *arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
