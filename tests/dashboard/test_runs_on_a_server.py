"""The view Runs over the runs of a PostgreSQL database."""

from cockpit.dashboard.listing import Listing
from cockpit.dashboard.runs import Table
from cockpit.reading import Reading
from cockpit.store import Header, Store, Writer


def rows(answer):
    return {row["name"]: row for row in answer["rows"]}


def test_runs_of_a_server_are_listed_followed_annotated_and_deleted(postgres):
    address, now = postgres.empty(), [0.0]
    live = Writer(f"{address}/live", Header("live", 2.0, config={"lr": 0.1}), flush_interval=0.05)
    over = Writer(f"{address}/over", Header("over", 1.0, config={"lr": 0.2}), flush_interval=0.05)
    for writer in (live, over):
        writer.put(3, 1.5, {"loss": Reading(0.5)})
        assert writer.flush()
    over.close()
    table = Table(Listing(Store(address), clock=lambda: now[0]))
    first = table.answer({"known": None, "columns": None})
    assert first["whole"]
    assert {name: (row["state"], row["step"], row["loss"]) for name, row in rows(first).items()} == {
        "live": ("running", 3, 0.5),
        "over": ("finished", 3, 0.5),
    }
    live.put(4, 2.0, {"loss": Reading(0.25)})
    assert live.flush()
    now[0] += 2.0
    second = table.answer({"known": first["known"], "columns": None})
    assert {name: (row["step"], row["loss"]) for name, row in rows(second).items()} == {"live": (4, 0.25)}
    assert table.annotate([{"rowId": "over", "colId": "notes", "value": "the baseline"}]) == ""
    third = table.answer({"known": second["known"], "columns": None})
    assert rows(third)["over"]["notes"] == "the baseline"
    assert "is being written" in table.delete(["live"])
    live.close()
    assert table.delete(["over"]) == ""
    last = table.answer({"known": third["known"], "columns": None})
    assert last["gone"] == ["over"]
