"""``kill -9`` of one process for each database: what its log has lost is counted, and its run goes on.

Ninety-five more, whose logs are files, are in test_kills.py.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import backends
import doomed
import pytest
from nursery import Nursery, lost, starved, writing
from patience import until

from cockpit.reading import Reading
from cockpit.store import Reader, RunIsLive, Store, Writer

EVERY_DATABASE = True

Start = Callable[..., Writer]

pytestmark = [pytest.mark.alone, pytest.mark.skipif(sys.platform == "win32", reason="signals and fork are POSIX")]

HANDED_OVER = 220  # steps: a second and a half at its pace
ALLOWED = 1.0  # seconds, of a process that may run
STEP = 0.02  # seconds; three times its pace


def readable(reader: Reader, kind: str) -> list[int]:
    there = {(series.key, series.kind) for series in reader.series()}
    return reader.column("loss", kind).steps.tolist() if ("loss", kind) in there else []


def test_a_killed_process_loses_at_most_a_second_and_its_run_goes_on(start: Start, backend: backends.Backend) -> None:
    with Nursery(Path(doomed.__file__), backend.setup) as nursery:
        pid = nursery.begin(backend.place("run"), doomed.KINDS.index("plain"))
        nursery.handed_over(pid)
        with pytest.raises(RunIsLive, match=f"process {pid} on"):
            start(resume=True)
        nursery.handed_over(pid, HANDED_OVER)
        killed = nursery.kill(pid)
    made, writes = nursery.records[pid], nursery.writes[pid]
    reader = Store(backend.logs).open("run")
    until(lambda: reader.state() == "crashed")
    steps = readable(reader, "scalar")
    assert steps == readable(reader, "layers") == list(range(len(steps)))
    loss = lost(made, killed, len(steps))
    assert loss <= ALLOWED + starved(made, killed, STEP) + writing(writes, killed)
    writer = start(resume=True)
    assert writer.last_step == (steps[-1] if steps else None)
    writer.put(len(steps), 99.0, {"loss": Reading(-1.0)})
    writer.close()
    column = reader.column("loss")
    assert column.steps.tolist() == [*steps, len(steps)]
    assert column.values[-1] == -1.0
    assert reader.state() == "finished"
    if isinstance(writer.path, Path):
        assert [file.name for file in writer.path.parent.iterdir()] == ["rank0.db"]
