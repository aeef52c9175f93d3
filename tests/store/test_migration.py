"""Logs that older versions wrote are read as they are, and brought up to date where their run goes on."""

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from older import VERSIONS, write_older_log

from cockpit.reading import Histogram, Histogram2d, Reading
from cockpit.store import SCHEMA_VERSION, Reader, Store, Writer, migration

Start = Callable[..., Writer]
EDGES = np.array([-1.0, 0.0, 1.0])

pytestmark = pytest.mark.parametrize("version", VERSIONS)


def check_old_points(reader: Reader) -> None:
    loss = reader.column("loss", steps=(0, 4))
    assert loss.steps.tolist() == [0, 1, 2, 3, 4]
    assert loss.times.tolist() == [0.1, 0.2, 0.3, 1 / 3, 0.5]
    np.testing.assert_array_equal(loss.values, [2.5, np.nan, -np.inf, np.nan, 0.25])
    assert loss.missing.tolist() == [False, False, False, True, False]
    layers = reader.column("norm", "layers", steps=(0, 4))
    assert (layers.layers, layers.missing.tolist()) == (("fc.weight", "fc.bias"), [[False, True]])
    assert layers.values[0, 0] == 1.5
    hist = reader.column("hist", steps=(0, 4))
    assert (hist.values.tolist(), hist.edges.tolist()) == ([[3, 4]], EDGES.tolist())
    assert reader.at("loss", 2).values.tolist() == [-np.inf]
    assert reader.document("coverage") == {"share": 1.0}
    assert [event.text for event in reader.events()][:1] == ["careful"]


def test_an_older_log_is_read_and_not_changed(tmp_path: Path, version: int) -> None:
    path = write_older_log(tmp_path / "old", version)
    before = path.read_bytes()
    path.chmod(stat.S_IRUSR)
    reader = Reader(path)
    check_old_points(reader)
    assert (reader.name, reader.header.config, reader.state()) == ("old", {"lr": 0.1}, "finished")
    assert [series.kind for series in reader.series()] == ["scalar", "layers", "histogram", "scalar"]
    assert [(attempt.number, attempt.began, attempt.pid) for attempt in reader.attempts()] == [(1, 1000.0, 17)]
    assert reader.column("loss", since=4).steps.tolist() == [4]
    (summary,) = Store(tmp_path).runs()
    assert (summary.name, summary.tags, summary.last_step, summary.last_loss) == ("old", ("tag",), 4, 0.25)
    assert summary.latest == {"loss": 0.25, "valid/accuracy": 0.5}
    assert path.read_bytes() == before


def test_an_older_log_goes_on_as_one_of_this_version(tmp_path: Path, start: Start, version: int) -> None:
    path = write_older_log(tmp_path / "old", version)
    writer = start("old", resume=True)
    assert (writer.elapsed, writer.last_step, writer.attempt) == (0.5, 4, 2)
    check_old_points(Reader(path))
    counts = np.array([1, 2])
    pairs = Histogram2d(counts[:, None], EDGES, EDGES[:2])
    arrays = {"a": np.ones((2, 2))}
    writer.put(5, 0.6, {"loss": Reading(0.125), "hist": Reading(Histogram(counts, EDGES)), "pairs": Reading(pairs)})
    writer.put(6, 0.7, {"parameters": Reading(None, arrays=arrays)})
    writer.close()
    reader = Reader(path)
    check_old_points(reader)
    assert reader.column("loss").values[-1] == 0.125
    assert reader.column("hist").values.tolist() == [[3, 4], [1, 2]]
    assert reader.column("pairs").values.tolist() == [[[1], [2]]]
    assert reader.arrays("parameters", 6)["a"].tolist() == [[1, 1], [1, 1]]
    assert [(attempt.number, attempt.first_step) for attempt in reader.attempts()] == [(1, None), (2, 5)]
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT schema_version, name, rank FROM run").fetchone() == (SCHEMA_VERSION, "old", 0)
        tables = {name for (name,) in other.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not [name for name in tables if name.startswith("older")]


def test_a_migration_that_fails_leaves_the_log_as_it_was(
    tmp_path: Path, start: Start, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_older_log(tmp_path / "old", version)
    migrate = migration.migrate

    def fail(connection: object) -> None:
        migrate(connection)  # type: ignore[arg-type]
        raise OSError("the power goes")

    monkeypatch.setattr(migration, "migrate", fail)
    with pytest.raises(OSError, match="the power goes"):
        start("old", resume=True)
    check_old_points(Reader(path))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT schema_version FROM run").fetchone() == (version,)
