"""A log read portion by portion, as it is passed on to other tools."""

from collections.abc import Callable, Iterable

import numpy as np
from backends import Backend

from cockpit.reading import Histogram, Reading
from cockpit.store import Portion, Reader, Writer

EVERY_DATABASE = True

Start = Callable[..., Writer]
EDGES = np.linspace(-1, 1, 4)


def put(writer: Writer, steps: Iterable[int], value: float = 0.0) -> None:
    for step in steps:
        histogram = Histogram(np.array([step, 1, 2]), EDGES)
        loss = None if step % 7 == 0 else value + step
        writer.put(step, 0.5 * step, {"loss": Reading(loss, {"a": 1.0, "b": value}), "hist": Reading(histogram)})
        if step % 100 == 0:
            writer.event(step, 0.5 * step, "info", f"{value} at {step}")


def all_portions(reader: Reader, since: int = 0, most: int = 700) -> list[Portion]:
    portions = [reader.portion(since, most)]
    while portions[-1].more:
        portions.append(reader.portion(portions[-1].cursor, most))
    return portions


def points(portions: Iterable[Portion]) -> dict[tuple[str, str], dict[int, object]]:
    """By series and step, each of which must come once."""
    found: dict[tuple[str, str], dict[int, object]] = {}
    for portion in portions:
        for column in portion.columns:
            series = found.setdefault((column.key, column.kind), {})
            for step, time, value, missing in zip(
                column.steps.tolist(),
                column.times.tolist(),
                column.values.tolist(),
                column.missing.tolist(),
                strict=True,
            ):
                assert step not in series
                series[step] = (time, str(value), missing)
    return found


def columns(reader: Reader) -> dict[tuple[str, str], dict[int, object]]:
    """The same, read series by series."""
    whole = tuple(reader.column(entry.key, entry.kind) for entry in reader.series())
    return points([Portion(0, whole, (), (), False)])


def test_portions_hold_every_point_and_event_once_also_those_in_chunks(start: Start, backend: Backend) -> None:
    writer = start()
    put(writer, range(2500))
    writer.close()
    assert backend.tamper(writer, "SELECT count(*) FROM chunk") != [(0,)]
    reader = Reader(writer.path)
    portions = all_portions(reader)
    assert len(portions) > 10
    assert points(portions) == columns(reader)
    assert [event for portion in portions for event in portion.events] == reader.events()
    assert portions[-1].cursor == reader.cursor()


def test_a_portion_is_no_larger_than_asked(start: Start) -> None:
    writer = start()
    put(writer, range(100))
    writer.close()
    for portion in all_portions(Reader(writer.path), most=30):
        assert sum(map(len, portion.columns)) + len(portion.events) <= 30


def test_what_comes_later_is_in_the_next_portion_alone(start: Start) -> None:
    writer = start()
    put(writer, range(10))
    assert writer.flush()
    reader = Reader(writer.path)
    (first,) = all_portions(reader)
    assert reader.portion(first.cursor).columns == ()
    put(writer, range(10, 12))
    assert writer.flush()
    (second,) = all_portions(reader, first.cursor)
    assert {tuple(column.steps.tolist()) for column in second.columns} == {(10, 11)}


def test_what_was_overtaken_is_in_no_portion_and_each_tells_from_where_on(start: Start) -> None:
    writer = start()
    put(writer, range(2500))
    writer.close()
    writer = start(resume=1200)
    put(writer, range(1200, 1300), 0.5)
    writer.close()
    reader = Reader(writer.path)
    portions = all_portions(reader)
    assert points(portions) == columns(reader)
    assert {step for _, step in portions[0].overtaken} == {1200}
    warned = [event for portion in portions for event in portion.events]
    assert warned == reader.events()
    assert "0.0 at 1300" not in [event.text for event in warned]


def test_an_empty_run_is_one_empty_portion(start: Start) -> None:
    writer = start()
    writer.close()
    (portion,) = all_portions(Reader(writer.path))
    assert (portion.columns, portion.more) == ((), False)


def test_news_are_the_scalars_that_a_column_since_then_would_give(start: Start) -> None:
    writer = start()
    put(writer, range(2000))  # some of them in chunks
    assert writer.flush()
    reader = Reader(writer.path)
    before = reader.cursor()
    assert reader.news(before) == {}
    put(writer, range(1990, 2100), value=3.0)
    writer.close()
    news = reader.news(before)
    assert set(news) == {"loss"}  # neither its layers nor the histogram
    for key, found in news.items():
        wanted = reader.column(key, "scalar", since=before)
        for name in ("steps", "times", "values", "missing"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=f"{key}, {name}")
