"""A dashboard that times its own answers: ``python dashboard_server.py LOGDIR``, a question a line on standard input.

To an empty line it answers with what it has served since the last one, and with the memory it holds.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

from cockpit.dashboard.app import create_app
from cockpit.dashboard.server import Server
from cockpit.store import Store


class Timed:
    """An application, and how long each of its answers took."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application, self._lock = application, threading.Lock()
        self.answers: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        wall, cpu = perf_counter(), thread_time()
        body = b"".join(self._application(environ, start_response))
        answer = {"path": environ["PATH_INFO"], "seconds": perf_counter() - wall, "cpu": thread_time() - cpu}
        with self._lock:
            self.answers.append({**answer, "bytes": len(body)})
        return [body]


def memory() -> int:
    """Resident bytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def main(logdir: str) -> None:
    application = Timed(create_app(Store(logdir)).server)
    with Server(application, socket.create_server(("127.0.0.1", 0))) as server:
        print(json.dumps({"url": server.url}), flush=True)
        for _ in sys.stdin:
            told, application.answers = application.answers, []
            print(json.dumps({"answers": told, "memory": memory()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
