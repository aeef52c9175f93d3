"""Runs in TensorBoard, as its own reader finds them."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from patience import LONG
from sink_logs import BEGAN, HISTOGRAMS, NUMBERS, Events, header, put, read_events, write_everything

from cockpit.cli import main
from cockpit.reading import Histogram, Reading
from cockpit.run import load_run
from cockpit.sinks import TensorBoard
from cockpit.sinks.passing import Passing, pass_on
from cockpit.store import Writer


def single(numbers: dict[str, list[tuple[int, float, float]]]) -> dict[str, list[tuple[int, float, float]]]:
    return {tag: [(step, time, float(np.float32(value))) for step, time, value in of] for tag, of in numbers.items()}


def filled(histogram: Histogram) -> list[tuple[float, float, int]]:
    """Bins from the first that is not empty to the last."""
    bins = list(zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts, strict=True))
    while bins and not bins[-1][2]:
        del bins[-1]
    while bins and not bins[0][2]:
        del bins[0]
    return bins


def steps(events: Events, tag: str = "loss") -> list[int]:
    return [step for step, _, _ in events.numbers[tag]]


@pytest.fixture
def everything(tmp_path: Path) -> Events:
    pass_on(load_run(write_everything(tmp_path / "run")), TensorBoard(tmp_path / "logs"))
    return read_events(tmp_path / "logs" / "run")


def test_every_number_is_there_with_its_step_and_time(everything: Events) -> None:
    np.testing.assert_equal(everything.numbers, single(NUMBERS))


def test_histograms_are_exact(everything: Events) -> None:
    assert everything.histograms.keys() == HISTOGRAMS.keys()
    for tag, expected in HISTOGRAMS.items():
        ((step, time, histogram),) = everything.histograms[tag]
        assert (step, time) == expected[0][:2]
        assert histogram == filled(expected[0][2])


def test_events_are_texts_and_what_was_said_at_a_step_stands_in_its_last(everything: Events) -> None:
    last = dict(everything.texts["events"])
    assert last[1].split("\n\n") == ["warning: alpha: one <b>sample</b>", "info: and another"]
    assert last[0] == "info: at no step"


def test_the_configuration_is_a_text_and_hyperparameters(everything: Events) -> None:
    ((step, text),) = everything.texts["configuration"]
    described = json.loads(text)
    assert step == 0
    assert described["config"] == {"lr": 0.1, "data": {"name": "digits", "sizes": [8, 8]}, "augment": True}
    assert (described["tags"], described["optimizer"]) == (["first"], [{"class": "SGD"}])
    assert everything.settings == {"lr": 0.1, "data.name": "digits", "data.sizes": "[8, 8]", "augment": True}


def test_what_is_left_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_everything(tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), "--to", "tensorboard", "--output", str(tmp_path / "logs")]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert sorted(err.splitlines()) == [
        "cockpit: the arrays of 'theta' are left out",
        "cockpit: the histograms of pairs of 'pairs' are left out",
    ]


def test_exported_twice_it_is_there_once(tmp_path: Path) -> None:
    run, files = load_run(write_everything(tmp_path / "run")), []
    for _ in range(2):
        pass_on(run, TensorBoard(tmp_path / "logs"))
        files.append(sorted((tmp_path / "logs" / "run").iterdir()))
    assert files[0] == files[1]


def test_of_a_run_that_went_on_only_the_rest_is_added(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", header())
    for part in (range(10), range(10, 20)):
        put(writer, part)
        assert writer.flush()
        pass_on(load_run(tmp_path / "run"), TensorBoard(tmp_path / "logs"))
    writer.close()
    assert steps(read_events(tmp_path / "logs" / "run")) == list(range(20))


def test_what_a_killed_process_left_beyond_its_last_word_does_not_count(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", header())
    put(writer, range(10))
    assert writer.flush()
    pass_on(load_run(tmp_path / "run"), TensorBoard(tmp_path / "logs"))
    (file,) = (tmp_path / "logs" / "run").glob("events*")
    whole = file.read_bytes()
    file.write_bytes(whole + whole[-100:-3])  # half a record
    put(writer, range(10, 20))
    writer.close()
    pass_on(load_run(tmp_path / "run"), TensorBoard(tmp_path / "logs"))
    assert steps(read_events(tmp_path / "logs" / "run")) == list(range(20))


def test_what_an_attempt_overtakes_is_taken_back(tmp_path: Path) -> None:
    for resume, part, value in ((False, range(20), 0.0), (12, range(12, 15), 100.0)):
        writer = Writer(tmp_path / "run", header(), resume=resume)
        put(writer, part, value)
        writer.close()
        pass_on(load_run(tmp_path / "run"), TensorBoard(tmp_path / "logs"))
    found = read_events(tmp_path / "logs" / "run").numbers["loss"]
    assert [(step, value) for step, _, value in found] == [
        *((step, float(step)) for step in range(12)),
        *((step, 100.0 + step) for step in range(12, 15)),
    ]


def test_an_attempt_that_proves_to_begin_earlier_is_written_again(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", header())
    put(writer, range(20))
    writer.close()
    writer = Writer(tmp_path / "run", header(), resume=12)
    for part in (range(12, 15), range(5, 7)):  # back to 5, which an attempt must not, but may
        put(writer, part, 100.0)
        assert writer.flush()
        pass_on(load_run(tmp_path / "run"), TensorBoard(tmp_path / "logs"))
    writer.close()
    run = load_run(tmp_path / "run")
    found = {step: value for step, _, value in read_events(tmp_path / "logs" / "run").numbers["loss"]}
    assert found == dict(zip(run["loss"].steps.tolist(), run["loss"].values.astype(np.float32).tolist(), strict=True))


def test_another_run_of_the_name_and_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "logs" / "run").mkdir(parents=True)
    theirs = tmp_path / "logs" / "run" / "events.out.tfevents.1.somebody"
    theirs.write_bytes(b"theirs")
    for count in (2, 3):
        writer = Writer(tmp_path / str(count), header(created=BEGAN + count))
        put(writer, range(count))
        writer.close()
        pass_on(load_run(tmp_path / str(count)), TensorBoard(tmp_path / "logs"))
        assert steps(read_events(tmp_path / "logs" / f"run-{count}")) == list(range(count))
    assert [path.name for path in (tmp_path / "logs" / "run").iterdir()] == [theirs.name]


@pytest.mark.parametrize("name", ["../../up", "/etc/passwd", "a/<b>'\"\0é😀/..", "..", "C:\\x", "é" * 999])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    writer = Writer(tmp_path / "run", header(name))
    put(writer, range(3))
    writer.close()
    before = set(tmp_path.iterdir())
    pass_on(load_run(tmp_path / "run"), TensorBoard(tmp_path / "deep" / "logs"))
    assert set(tmp_path.iterdir()) - before == {tmp_path / "deep"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["logs"]
    (directory,) = {path.parent for path in (tmp_path / "deep" / "logs").rglob("events*")}
    assert steps(read_events(directory)) == [0, 1, 2]


def test_a_key_of_numbers_and_histograms_has_a_tag_for_each(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", header())
    writer.put(0, 0.0, {"mixed": Reading(1.0)})
    writer.put(1, 0.0, {"mixed": Reading(Histogram(np.array([1]), np.array([0.0, 1.0])))})
    writer.close()
    pass_on(load_run(tmp_path / "run"), TensorBoard(tmp_path / "logs"))
    found = read_events(tmp_path / "logs" / "run")
    assert (list(found.numbers), list(found.histograms)) == (["mixed"], ["mixed (histogram)"])


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")
def test_a_full_disk_costs_nothing_once_there_is_room(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", header())
    put(writer, range(200))
    writer.close()
    passing = Passing(load_run(tmp_path / "run"), TensorBoard(tmp_path / "logs"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        for _ in range(2):
            with pytest.raises(OSError, match="File too large"):
                passing.advance()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    while passing.advance():
        pass
    passing.end()
    assert steps(read_events(tmp_path / "logs" / "run")) == list(range(200))


def test_a_directory_that_is_deleted_is_written_again(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", header())
    passing = Passing(load_run(tmp_path / "run"), TensorBoard(tmp_path / "logs"))
    for part in (range(10), range(10, 20)):
        put(writer, part)
        assert writer.flush()
        while passing.advance():
            pass
        if part[0] == 0:
            for path in (tmp_path / "logs" / "run").iterdir():
                path.unlink()
            (tmp_path / "logs" / "run").rmdir()
    passing.end()
    writer.close()
    assert steps(read_events(tmp_path / "logs" / "run")) == list(range(20))


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    write_everything(tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), "--to", "tensorboard", "--output", str(tmp_path / "logs")]) == 2
    assert capsys.readouterr().err == (
        "cockpit: TensorBoard needs the package tensorboard: `pip install 'cockpit-debugger[tensorboard]'`\n"
    )


def test_the_directory_has_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_everything(tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), "--to", "tensorboard"]) == 2
    assert "--output DIR" in capsys.readouterr().err


def test_an_export_imports_neither_torch_nor_tensorflow(tmp_path: Path) -> None:
    write_everything(tmp_path / "run")
    arguments = ["export", str(tmp_path / "run"), "--to", "tensorboard", "--output", str(tmp_path / "logs")]
    code = (
        f"import sys; from cockpit.cli import main; assert main({arguments!r}) == 0; "
        "sys.exit(bool({'torch', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, timeout=LONG).returncode == 0
    assert read_events(tmp_path / "logs" / "run").numbers
