import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cockpit.store import Header, Writer

Start = Callable[..., Writer]
Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(name, **options)`` begins a run below ``tmp_path`` that the test's end closes."""
    writers = []

    def begin(name: str = "run", **options: Any) -> Writer:
        header = options.pop("header", Header(name, created=1.7e9))
        writers.append(Writer(tmp_path / name, header, **{"flush_interval": 0.05, **options}))
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
