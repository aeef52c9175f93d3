"""Where a run's log goes, and under which name."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

from cockpit.store import Header, RunExists, RunIsLive, Writer

DEFAULT_LOGDIR = Path("runs")


def default_run() -> Path:
    """``runs/<script>-<time>``."""
    script = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] not in ("", "-c", "-m") else ""
    return DEFAULT_LOGDIR / f"{script or 'python'}-{time.strftime('%Y%m%d-%H%M%S')}"


def open_log(run: str | Path | None, header: Header, resume: bool) -> tuple[Writer, Path]:
    """Opens the log of a new run, or of one to be continued.

    Args:
        run: Directory of the run; a default one if not given.
        header: Description of the run, without its name.
        resume: Whether to continue the run that is there.

    Returns:
        The writer, and the directory: with a suffix where the name belongs to a finished run, and that is printed.

    Raises:
        RunIsLive: If the named run is being written.
        OSError: If the place cannot be written.
    """
    wanted = default_run() if run is None else Path(run)
    place, attempt = wanted, 1
    while True:
        try:
            writer = Writer(place, dataclasses.replace(header, name=place.name), resume=resume)
        except RunExists:
            pass
        except RunIsLive:
            if run is not None:
                raise
        else:
            break
        attempt += 1
        place = wanted.with_name(f"{wanted.name}-{attempt}")
    if place != wanted and run is not None:
        print(f"cockpit: {wanted} holds a finished run; this one is {place}", file=sys.stderr)
    return writer, place
