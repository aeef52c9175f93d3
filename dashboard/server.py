"""Serving the dashboard on this machine's own address."""

from __future__ import annotations

import errno
import getpass
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from waitress import create_server
from waitress.server import BaseWSGIServer

from cockpit.dashboard.app import LOOPBACK, create_app
from cockpit.store import Store

PORT = 8765
THREADS = 8


class Server:
    """A dashboard that is being served from a thread of its own, until :meth:`stop` or the end of a ``with`` block.

    Attributes:
        url: Where it is; the port may differ from the one asked for.
    """

    def __init__(self, server: BaseWSGIServer, host: str):
        self._server = server
        self._port = int(server.effective_port)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._port}"
        self._thread = threading.Thread(target=server.run, name="cockpit-dashboard", daemon=True)
        self._thread.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def announcement(self, environment: Mapping[str, str] = os.environ) -> str:
        """What to tell the user: the address and, in a remote session, how to reach it from their own machine."""
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
        """Stop serving. Again: no effect."""
        self._server.close()
        self._thread.join(5)


def serve(store: Store | str | Path, *, host: str = "127.0.0.1", port: int | None = None) -> Server:
    """Serve the dashboard in the background.

    Args:
        store: The runs, or the directory they are in.
        host: A loopback address of this machine.
        port: By default 8765. A port that is taken is no error: a free one is used, see :attr:`Server.url`. 0: any.

    Raises:
        PermissionError: For an address that other machines can reach.
        OSError: If no port can be opened.

    Example:
        >>> with serve("runs", port=0) as server:
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """
    if host not in LOOPBACK:
        raise PermissionError(
            f"the dashboard is served on {' or '.join(LOOPBACK)}, not on {host!r}, where everybody in the network "
            "could read your runs. From another machine use: ssh -L 8765:127.0.0.1:8765 USER@THIS_MACHINE"
        )
    app = create_app(store if isinstance(store, Store) else Store(store)).server
    wanted = PORT if port is None else port
    try:
        server = create_server(app, host=host, port=wanted, threads=THREADS)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        server = create_server(app, host=host, port=0, threads=THREADS)
    return Server(server, host)
