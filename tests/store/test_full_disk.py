"""A disk that is full for a while, and training beside it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from children import SETUP, check_integrity, output

from cockpit.dashboard.page import Choice, look
from cockpit.dashboard.sources import Sources
from cockpit.dashboard.status import strip
from cockpit.store import Reader, Store

Child = Callable[..., "subprocess.Popen[str]"]

pytestmark = [pytest.mark.alone, pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")]

FULL = """
import resource
small = Writer(sys.argv[1] + "-small", Header("small", time.time()), capacity=1000)
assert writer.flush(LONG) and small.flush(LONG)
size = writer.path.stat().st_size
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
took = []
for step in range(3000):
    for each in (writer, small):
        began = time.perf_counter()
        each.put(step, 0.001 * step, readings(step))
        took.append(time.perf_counter() - began)
print(writer.flush(timeout=2.0), small.flush(timeout=0.1), sorted(took)[-11] < 0.1, max(took) < 2.0)
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
print(writer.flush(LONG), writer.dropped)
print(small.flush(LONG), small.dropped)
small.put(3000, 3.0, readings(3000))
for each in (writer, small):
    each.event(None, 0.0, "info", "room again")
    each.close()
"""


def test_a_full_disk_is_said_once_and_what_there_is_no_room_for_is_counted_and_shown(
    child: Child, tmp_path: Path
) -> None:
    out, err = output(child(SETUP + FULL, tmp_path / "run"))
    *first, dropped = out.split()
    assert first == ["False", "False", "True", "True", "True", "0", "True"]
    for name in ("run", "run-small"):
        assert err.count(f"{name}/rank0.db cannot be written") == 1
        reader = Reader(tmp_path / name)
        assert any("could not be written for" in event.text for event in reader.events())
        assert reader.state() == "finished"
        check_integrity(reader.path)
    assert err.count("Training goes on; writing is tried again") == 2
    assert list(Reader(tmp_path / "run").column("loss").steps) == list(range(3000))
    kept = len(reader.column("loss")) + len(reader.column("hist", "arrays"))
    assert reader.dropped() == int(dropped) == 2 * 3001 - kept
    assert 1000 < kept < 3000  # what was waiting, and what could still be written
    assert reader.column("loss").steps[-1] == 3000
    page = look(Sources(Store(tmp_path)), Choice(), "run-small")
    assert f"{reader.dropped():,} readings" in str(strip(page))
