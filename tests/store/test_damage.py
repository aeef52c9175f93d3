"""A log that was cut short or spoilt is read as far as it goes or refused in words, wherever the damage is."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit.reading import Histogram, Reading
from cockpit.store import Header, Reader, Store, UnreadableLog, Writer, encoder

PAGE = 4096  # bytes of which SQLite reads and writes at once
STEPS = 400


def write(directory: Path, steps: int) -> Writer:
    writer = Writer(directory, Header("run", 0.0, {"lr": 0.1}, ("tag",)), flush_interval=60.0)
    edges = np.arange(9.0)
    for step in range(steps):
        histogram = Histogram(np.arange(8) * step, edges)
        arrays = {"a": np.full(4, float(step))} if step % 100 == 0 else {}
        writer.put(step, 0.1 * step, {"loss": Reading(float(step), {"a": 1.0, "b": None}, arrays=arrays)})
        if step % 10 == 0:
            writer.put(step, 0.1 * step, {"hist": Reading(histogram, {"a": histogram, "b": None})})
    writer.event(5, 0.5, "warning", "careful", "loss")
    writer.document("coverage", {"share": [1, 2]})
    assert writer.flush(60.0)
    return writer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_TAIL", (64, 64))  # some points are in chunks
        patch.setattr(encoder, "_LENGTH", (32, 32))
        writer = write(tmp_path_factory.mktemp("whole"), STEPS)
        writer.close()
    return Path(str(writer.path)).read_bytes()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples of one test stand, one after the other."""
    path = tmp_path_factory.mktemp("damaged") / "run" / "rank0.db"
    path.parent.mkdir()
    return path


def questions() -> Iterator[Callable[[Reader], object]]:
    yield from (Reader.state, Reader.events, Reader.series, Reader.latest, Reader.attempts, Reader.annotations)
    yield lambda reader: reader.document("coverage")
    for key, kind in (("loss", "scalar"), ("loss", "layers"), ("hist", "histogram"), ("hist", "layer_histograms")):
        yield lambda reader, key=key, kind=kind: reader.column(key, kind)  # type: ignore[misc]
        yield lambda reader, key=key, kind=kind: reader.column(key, kind, max_points=50)  # type: ignore[misc]
        yield lambda reader, key=key, kind=kind: reader.at(key, 200, kind)  # type: ignore[misc]
    yield lambda reader: reader.arrays("loss", 200)


def outcome(path: Path, ask: Callable[[Reader], object]) -> str:
    try:
        ask(Reader(path))
    except UnreadableLog as error:
        return "refused" if str(path) in str(error) else repr(error)
    except KeyError as error:
        return "renamed" if "is logged as" in str(error) else repr(error)
    return "read"


def outcomes(path: Path, content: bytes) -> set[str]:
    """Of all that a log may be asked; that the list of runs holds it is seen on the way."""
    path.write_bytes(content)
    os.utime(path, (0, 0))  # an empty file that is new would be a run that begins
    (summary,) = Store(path.parents[1]).runs()
    assert (summary.reason != "") == (summary.state == "unreadable")
    return {outcome(path, ask) for ask in questions()}


@given(share=st.floats(0, 1), even=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_file_cut_short_anywhere_is_read_or_refused(whole: bytes, log: Path, share: float, even: bool) -> None:
    length = int(share * len(whole))
    length -= length % PAGE if even else 0  # as a disk would cut it
    found = outcomes(log, whole[:length])
    assert found <= {"read", "refused"}
    assert found == {"read"} if length == len(whole) else "refused" in found


@given(share=st.floats(0, 1, exclude_max=True), filled=st.sampled_from(["zeros", "ones", "noise", "another page"]))
@settings(max_examples=20, deadline=None)
def test_a_spoilt_page_anywhere_is_read_around_or_refused(whole: bytes, log: Path, share: float, filled: str) -> None:
    at = int(share * (len(whole) // PAGE)) * PAGE
    noise = np.random.default_rng(at).bytes(PAGE)
    other = {"zeros": bytes(PAGE), "ones": b"\xff" * PAGE, "noise": noise, "another page": whole[2 * PAGE : 3 * PAGE]}
    found = outcomes(log, whole[:at] + other[filled] + whole[at + PAGE :])
    assert found <= {"read", "refused", "renamed"}


@given(share=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_a_live_log_that_is_copied_with_a_part_of_its_journal_ends_earlier(
    live: tuple[Path, bytes], log: Path, share: float
) -> None:
    """Whoever copies a run that is being written gets its files as of different moments."""
    database, journal = live
    shutil.copy(database, log)
    log.with_name("rank0.db-wal").write_bytes(journal[: int(share * len(journal))])
    reader = Reader(log)
    steps = reader.column("loss").steps.tolist() if "loss" in reader.latest() else []
    for ending in ("-wal", "-shm"):
        log.with_name(log.name + ending).unlink(missing_ok=True)
    assert steps == list(range(len(steps)))
    assert abs(len(steps) - 50 * share) < 10  # what is written at the beginning stands in the file itself


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes]]:
    """The log of a run that is being written, and what its journal holds."""
    directory = tmp_path_factory.mktemp("live")
    writer = Writer(directory, Header("run", 0.0), flush_interval=60.0)
    for step in range(50):
        writer.put(step, 0.1 * step, {"loss": Reading(float(step))})
        assert writer.flush()  # a transaction each
    path = Path(str(writer.path))
    yield path, path.with_name("rank0.db-wal").read_bytes()
    writer.close()
