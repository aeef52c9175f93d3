"""How much of a run is in a directory of TensorBoard's, and who is writing there."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cockpit.store import place

FILE = "cockpit.json"


@dataclass(frozen=True)
class Progress:
    """Stands in a file beside what it tells of.

    Args:
        created: When the run began, which tells it from others of its name.
        cursor: The last point that is there.
        overtaken: Attempts whose overtaken points were taken back.
        file: The event file that was written last; empty before the first.
        size: Bytes of it that count: a process that was killed may have left more.
        host: Where it was written; empty once that is over.
        pid: By which process.
        process: When that began.
    """

    created: float
    cursor: int = 0
    overtaken: tuple[tuple[int, int], ...] = ()
    file: str = ""
    size: int = 0
    host: str = ""
    pid: int = 0
    process: str = ""

    @classmethod
    def read(cls, directory: Path) -> Progress | None:
        """What stands in a directory; ``None`` where there is nothing, or something else."""
        try:
            known = json.loads((directory / FILE).read_text())
            return cls(**{**known, "overtaken": tuple(map(tuple, known["overtaken"]))})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, directory: Path) -> None:
        """Replaces what stands there.

        Raises:
            OSError: If that cannot be.
        """
        beside = (directory / FILE).with_suffix(".part")
        beside.write_text(json.dumps(dataclasses.asdict(self)))
        os.replace(beside, directory / FILE)

    def held(self) -> Progress:
        """The same, by this process."""
        pid = os.getpid()
        return dataclasses.replace(self, host=place.host(), pid=pid, process=place.process_start(pid))

    def released(self) -> Progress:
        """The same, by nobody."""
        return dataclasses.replace(self, host="", pid=0, process="")

    def require_free(self, directory: Path) -> None:
        """Looks whether somebody else is writing there; of other machines that is not known.

        Raises:
            FileExistsError: If so.
        """
        others = self.host == place.host() and self.pid != os.getpid()
        if others and place.is_alive(self.pid, self.process):
            raise FileExistsError(f"process {self.pid} is passing this run on to {directory}: wait for its end")

    def cut(self, directory: Path) -> None:
        """Takes off what somebody who was killed left beyond the bytes that count."""
        last = directory / self.file
        if self.host in ("", place.host()) and last.is_file() and last.stat().st_size > self.size:
            os.truncate(last, self.size)
