"""The dashboard within a notebook."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from cockpit.store.address import Address, Place, place_of

if TYPE_CHECKING:
    from cockpit.dashboard import Server

NOTEBOOKS = ("http://localhost:*", "http://127.0.0.1:*", "https://localhost:*", "https://127.0.0.1:*")
"""Pages that may show the dashboard within themselves: those of this machine's own servers."""

_servers: dict[Place, Server] = {}
_lock = threading.Lock()


def show(run: str | Place | None = None, *, height: int = 900) -> None:
    """Display the dashboard, live, below the cell of a Jupyter notebook.

    The first call starts a server in this process, on a free port of this machine's own address; later ones for the
    same directory of runs use it again. Notebooks that this machine serves may show it, and it ends with the process.

    Args:
        run: Directory of a run, ``"runs/mnist-sgd"``, or of runs: then a live one is shown, or the newest; or a
            database's address. By default ``./runs``.
        height: Of the frame, in pixels.

    Raises:
        FileNotFoundError: If there is no such directory.
        RuntimeError: Outside a notebook.
    """
    display, frame = _ipython()
    logdir, name = _place("runs" if run is None else run)
    query = "?" + urlencode({"run": name}) if name else ""
    display(frame(f"{_server(logdir).url}/{query}", width="100%", height=height))


def _ipython() -> tuple[Any, Any]:
    try:
        from IPython import get_ipython
        from IPython.display import IFrame, display
    except ImportError:
        get_ipython = None
    if get_ipython is None or get_ipython() is None:
        raise RuntimeError("show() displays in a notebook, and this is none: `cockpit dashboard` serves the same page")
    return display, IFrame


def _place(run: str | Place) -> tuple[Place, str | None]:
    """Where the runs are and the run's name there; no name where all of them are meant."""
    from cockpit.store import Store

    path = place_of(run)
    if isinstance(path, Address):
        return path.with_name(""), path.name or None
    whole = path.absolute()
    try:
        Store(whole.parent).summary(whole.name)
    except KeyError:
        if path == Path("runs") or whole.is_dir():
            return whole, None
        raise FileNotFoundError(f"there is neither a run nor a directory of runs in {path}") from None
    return whole.parent, whole.name


def _server(logdir: Place) -> Server:
    from cockpit.dashboard import serve
    from cockpit.store import Store

    with _lock:
        if logdir not in _servers:
            _servers[logdir] = serve(Store(logdir), port=0, frames=NOTEBOOKS)
        return _servers[logdir]
