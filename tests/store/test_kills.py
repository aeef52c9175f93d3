"""``kill -9`` at random moments of a run's life: what the log has lost is counted, and what it holds is right."""

import heapq
import random
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import doomed
import pytest
from nursery import Nursery, Record, lost, starved, writing
from patience import until

from cockpit.reading import Reading
from cockpit.store import Header, Reader, RunSummary, Store, Writer

pytestmark = [pytest.mark.alone, pytest.mark.skipif(sys.platform == "win32", reason="signals and fork are POSIX")]

KILLS = 95  # five more, of real trainings, are in test_killed_trainings.py
AT_ONCE = 12
LONGEST = 3.0  # seconds of a life from its first step on: three times what may be lost
EARLY, SHORT = 8, 0.5  # one of so many is killed within so many seconds, whether its log is there or not
ALLOWED = 1.0  # seconds, of a process that may run
STEP = 0.02  # seconds; three times its pace


class Death(NamedTuple):
    """What is known of a killed process from its own reports.

    Args:
        place: Its run's directory.
        killed: When, by the clock that all processes share.
        records: What it has reported.
        writes: What it has reported of its log's thread.
    """

    place: Path
    killed: float
    records: list[Record]
    writes: list[Record]


def kills(nursery: Nursery, runs: Path, draw: random.Random) -> list[tuple[int, Path, float]]:
    """Process id, run and moment of each; some come before the log is there."""
    due: list[tuple[float, int, Path, float]] = []
    deaths = []
    for number in range(KILLS + AT_ONCE):
        if number < KILLS:
            place = runs / f"run{number}"
            early = number % EARLY == 0
            begun, life = time.monotonic(), draw.uniform(0, SHORT if early else LONGEST)
            pid = nursery.begin(place, number)
            heapq.heappush(due, (begun + life, pid, place, 0.0 if early else life))
        if number >= AT_ONCE - 1 and due:
            moment, pid, place, life = heapq.heappop(due)
            if life:
                moment = nursery.handed_over(pid)[0].moment + life
            time.sleep(max(0.0, moment - time.monotonic()))
            deaths.append((pid, place, nursery.kill(pid)))
    return deaths


def expected(death: Death, attempts: int) -> dict[int, Record]:
    """By step, the report of its last reading that none of the log's attempts has overtaken."""
    seen: dict[int, Record] = {}
    for record in death.records:
        if record.step >= 0:
            seen[record.step] = record
        elif record.attempt <= attempts:  # else it was killed before it had the log
            seen = {step: earlier for step, earlier in seen.items() if step < -1 - record.step}
    return seen


def check_readings(reader: Reader, seen: dict[int, Record]) -> int:
    """Every reading that is there is the right one, and none is missing in between; returns how many there are."""
    keys = {(series.key, series.kind) for series in reader.series()}
    if ("loss", "scalar") not in keys:
        return 0
    loss = reader.column("loss")
    steps = loss.steps.tolist()
    assert steps == list(range(len(steps)))
    told = [step for step in steps if step in seen]  # the last one may have been handed over and not yet reported
    assert len(told) >= len(steps) - 1
    assert [loss.values[step] for step in told] == [doomed.value(seen[step].attempt, step) for step in told]
    assert (reader.column("loss.part").values == -loss.values).all()
    layers = reader.column("loss", "layers")
    assert (layers.values[:, 0] == loss.values).all()
    assert layers.missing[:, 1].all()
    for kind in ("histogram", "layer_histograms"):
        assert reader.column("hist", kind).values.reshape(-1, 50)[:, 0].tolist() == steps
    if ("hist", "arrays") in keys:
        stored = reader.column("hist", "arrays").steps.tolist()
        assert stored == steps[: len(stored)]
        assert all((reader.arrays("hist", step)["a"] == loss.values[step]).all() for step in stored[-3:])
    return len(steps)


def check_summaries(reader: Reader, summary: RunSummary) -> None:
    """What stands beside the readings agrees with them."""
    latest = reader.latest()
    for series in reader.series():
        column = reader.column(series.key, series.kind)
        assert (series.points, series.first_step, series.last_step) == (
            len(column), column.steps[0], column.steps[-1]
        )  # fmt: skip
        if series.kind == "scalar":
            assert latest[series.key] == column.values[-1]
    ends = [series.last_step for series in reader.series()]
    assert (summary.last_step, dict(summary.latest)) == (max(ends, default=None), latest)
    assert all(event.step is None or event.step <= max(ends) for event in reader.events())


def check_rows(path: Path, cursor: int) -> None:
    """Rows, chunks and payloads belong together, and every number was given before the cursor."""
    orphans = {
        "rows": "SELECT count(*) FROM series WHERE tail != (SELECT count(*) FROM point WHERE point.series = series.id)",
        "payloads": "SELECT count(*) FROM payload WHERE point NOT IN (SELECT id FROM point)",
        "packed": "SELECT count(*) FROM packed WHERE chunk NOT IN (SELECT id FROM chunk)",
        "chunks": "SELECT count(*) FROM chunk WHERE id NOT IN (SELECT chunk FROM packed)",
        "layouts": "SELECT count(*) FROM point WHERE layout NOT IN (SELECT id FROM layout)",
    }
    newest = "SELECT max(id) FROM (SELECT id FROM point UNION SELECT id FROM chunk UNION SELECT id FROM event)"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert {name: connection.execute(query).fetchone()[0] for name, query in orphans.items()} == dict.fromkeys(
            orphans, 0
        )
        assert (connection.execute(newest).fetchone()[0] or 0) <= cursor


def check_attempts(reader: Reader, death: Death) -> int:
    """The log tells of every attempt that its process began, and where; returns how many there are."""
    begun = [(record.attempt, -1 - record.step) for record in death.records if record.step < 0]
    attempts = reader.attempts()
    known = [(attempt.number, attempt.first_step) for attempt in attempts]
    first = [(1, known[0][1])]  # which is written with its first reading
    assert known[0][1] in (None, 0)
    assert known in (first + begun[1:], first + begun[1:-1])
    assert all(attempt.cursor <= reader.cursor() for attempt in attempts)
    return len(attempts)


def check_it_goes_on(place: Path) -> None:
    """A killed run can be continued, and ends as one that never was killed."""
    writer = Writer(place, Header("run", 0.0), resume=True)
    step = 0 if writer.last_step is None else writer.last_step + 1
    writer.put(step, writer.elapsed, {"loss": Reading(-1.0)})
    writer.close()
    reader = Reader(place)
    assert (reader.state(), reader.at("loss", step).values.tolist()) == ("finished", [-1.0])
    assert [file.name for file in place.iterdir()] == ["rank0.db"]


def begun(death: Death) -> bool:
    """Whether its process had the log, as far as it could tell."""
    return any(record.step >= 0 for record in death.records)


@pytest.mark.slow
def test_of_ninety_five_killed_processes_none_leaves_a_broken_log_or_loses_more_than_a_second(tmp_path: Path) -> None:
    with Nursery(Path(doomed.__file__)) as nursery:
        killed = kills(nursery, tmp_path, random.Random(0))
        assert nursery.said() == ""
    deaths = [Death(place, moment, nursery.records[pid], nursery.writes[pid]) for pid, place, moment in killed]
    assert len(deaths) == KILLS
    until(lambda: all(summary.state != "running" for summary in Store(tmp_path).runs()))  # the last have ended
    summaries = {summary.name: summary for summary in Store(tmp_path).runs()}
    losses = []
    for death in deaths:
        summary = summaries.get(death.place.name)
        if not begun(death) and (summary is None or summary.state == "unreadable"):
            assert summary is None or "it is empty" in summary.reason  # killed before the log was there
        else:
            assert summary is not None
            assert summary.state in ("crashed", "finished"), summary.reason  # between two attempts it was over
            reader = Reader(death.place)
            seen = expected(death, check_attempts(reader, death))
            losses.append(lost(list(seen.values()), death.killed, check_readings(reader, seen)))
            held_up = starved(death.records, death.killed, STEP) + writing(death.writes, death.killed)
            assert losses[-1] <= ALLOWED + held_up
            check_summaries(reader, summary)
            check_rows(death.place / "rank0.db", reader.cursor())
        check_it_goes_on(death.place)
    print(f"{len(losses)} logs, {sum(losses) / len(losses):.2f} s lost on average, {max(losses):.2f} s at most")
    assert len(losses) > 0.8 * KILLS
    assert sum(each > ALLOWED for each in losses) <= 0.2 * len(losses)  # however slow it all was
