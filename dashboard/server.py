"""Serving the dashboard: on this machine's own address, on others only to who has the token."""

from __future__ import annotations

import errno
import getpass
import logging
import os
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from waitress import create_server, wasyncore

from cockpit.dashboard.app import create_app
from cockpit.dashboard.guard import LOOPBACK, Access
from cockpit.store import Store

PORT = 8765
ANYWHERE = ("0.0.0.0", "::")  # all addresses of this machine
THREADS = 8
LARGEST = 64 * 1024 * 1024  # bytes of an answer that is kept in memory; larger ones go through a file
LARGEST_QUESTION = 16 * 1024 * 1024  # bytes; a page that lists 10,000 runs asks with one or two million


class Server:
    """A dashboard that is being served from a thread of its own, until :meth:`stop` or the end of a ``with`` block.

    Attributes:
        url: Where it is; the port may differ from the one asked for.
        token: What a browser must bring once, as ``?token=…``; ``None`` where everybody on this machine is let in.
    """

    def __init__(self, app: Any, listener: socket.socket, token: str | None = None):
        host, self._port = listener.getsockname()[:2]
        if host in ANYWHERE:
            host = _own_address(listener.family)
        self.token = token
        # That a request waits for a moment is no news for the terminal in which somebody trains.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        sizes = {"outbuf_overflow": LARGEST, "max_request_body_size": LARGEST_QUESTION}
        self._server = create_server(app, sockets=[listener], threads=THREADS, **sizes)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._port}"
        self._thread = threading.Thread(target=self._server.run, name="cockpit-dashboard", daemon=True)
        self._thread.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def announcement(self, environment: Mapping[str, str] = os.environ) -> str:
        """What to tell the user: the address, this once with the token, and how to reach it from their own machine."""
        if self.token:
            return (
                f"Dashboard: {self.url}/?token={self.token}\n"
                "Whoever has this address sees the runs and may delete them. What is sent is not encrypted."
            )
        lines = [f"Dashboard: {self.url}"]
        connection = environment.get("SSH_CONNECTION", "").split()
        if len(connection) == 4:  # client address and port, server address and port
            target = f"{getpass.getuser()}@{connection[2]}"
            lines.append(f"On your own machine, first: ssh -L {self._port}:127.0.0.1:{self._port} {target}")
        return "\n".join(lines)

    def wait(self) -> None:
        """Return when the server has been stopped; Ctrl-C raises ``KeyboardInterrupt`` here as anywhere."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """Finish the requests that are being answered, and end. Again: no effect."""
        if self._thread.is_alive():
            self._server.trigger.pull_trigger(self._close)
            self._thread.join()

    def _close(self) -> None:
        """On the serving thread, which ends when nothing is left open."""
        self._server.task_dispatcher.shutdown(timeout=2)
        wasyncore.close_all(self._server._map, ignore_all=True)


def serve(
    store: Store | str | Path, *, host: str = "127.0.0.1", port: int | None = None, allow_hosts: Sequence[str] = (),
    frames: Sequence[str] = (),
) -> Server:  # fmt: skip
    """Serve the dashboard in the background.

    Args:
        store: The runs, or the directory they are in.
        host: An address of this machine. One that others can reach asks for :attr:`Server.token`.
        port: By default 8765. A port that is taken is no error: a free one is used, see :attr:`Server.url`. 0: any.
        allow_hosts: Further names that the page may be asked for by, such as one that a proxy has. Others then reach
            it, so the token is asked for.
        frames: Origins of pages that may show the dashboard within themselves.

    Raises:
        OSError: If no port can be opened.

    Example:
        >>> with serve("runs", port=0) as server:
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """
    private = host in LOOPBACK and not allow_hosts
    token = None if private else secrets.token_urlsafe(32)
    named = () if host in ANYWHERE else (host,)
    hosts = [name.lower() for name in (*LOOPBACK, *named, *allow_hosts)]
    listener = _listen(host, PORT if port is None else port)
    access = Access(hosts, host in ANYWHERE, token, frames)
    app = create_app(store if isinstance(store, Store) else Store(store), access)
    return Server(app.server, listener, token)


def _own_address(family: int) -> str:
    """The address that others reach this machine by; its loopback address where it has no network."""
    remote, own = ("2001:db8::1", "::1") if family == socket.AF_INET6 else ("192.0.2.1", "127.0.0.1")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((remote, 9))  # an address that nobody has: asks which way it would go, sends nothing
        except OSError:
            return own
        return str(probe.getsockname()[0])


def _listen(host: str, port: int) -> socket.socket:
    """A socket on the port, or on a free one where that is taken or reserved."""
    (family, *_, address) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        if port and error.errno in (errno.EADDRINUSE, errno.EACCES):
            return _listen(host, 0)
        raise
    return listener
