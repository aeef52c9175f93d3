import math

import pytest
from synthetic import write_run

from cockpit.dashboard.listing import Listing
from cockpit.store import RunSummary, Store


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Directory:
    """A store that counts how often it is read; looking through it takes ``cost`` seconds."""

    def __init__(self, clock, cost=0.0):
        self.clock, self.cost = clock, cost
        self.found = {}
        self.whole, self.single = 0, []

    def put(self, name, state="finished", **facts):
        self.found[name] = RunSummary(name, state, facts.pop("created", 1.0), **facts)

    def runs(self):
        self.whole += 1
        self.clock.now += self.cost
        return list(self.found.values())

    def summary(self, name):
        self.single.append(name)
        return self.found[name]


@pytest.fixture
def clock():
    return Clock()


def test_the_newest_run_is_the_first(clock):
    store = Directory(clock)
    for name, created in (("b", 1.0), ("c", 2.0), ("a", 1.0)):
        store.put(name, created=created)
    listing = Listing(store, clock)
    listing.look()
    assert [run.name for run in listing.runs()] == ["c", "a", "b"]


def test_a_slow_directory_is_looked_through_for_a_tenth_of_the_time(clock):
    store = Directory(clock, cost=3.0)
    listing = Listing(store, clock)
    for _ in range(600):
        listing.look()
        clock.now += 1.0
    assert 3.0 * store.whole <= 0.1 * clock.now + 3.0
    assert store.whole >= 15


def test_in_between_only_live_runs_are_read(clock):
    store = Directory(clock, cost=3.0)
    store.put("over")
    store.put("live", "running", last_step=1)
    listing = Listing(store, clock)
    listing.look()
    clock.now += 2.0
    store.put("live", "running", last_step=2)
    listing.look()
    assert (store.whole, store.single) == (1, ["live"])
    assert [run.last_step for run in listing.runs() if run.name == "live"] == [2]


def test_only_what_has_changed_is_told(clock):
    store = Directory(clock)
    store.put("a")
    store.put("b", "running")
    listing = Listing(store, clock)
    listing.look()
    first = listing.since(0)
    assert sorted(run.name for run in first.changed) == ["a", "b"]
    assert listing.since(first.revision).changed == []
    store.put("b")
    del store.found["a"]
    store.put("c")
    listing.look(anew=True)
    second = listing.since(first.revision)
    assert (sorted(run.name for run in second.changed), second.gone) == (["b", "c"], ["a"])
    assert listing.since(second.revision) == type(second)(second.revision, [], [])


def test_nothing_new_is_no_new_revision(clock):
    store = Directory(clock)
    store.put("a", last_loss=math.nan)
    listing = Listing(store, clock)
    listing.look()
    before = listing.revision
    listing.look(anew=True)
    assert listing.revision == before


def test_a_run_that_was_touched_is_looked_at_at_once(clock):
    store = Directory(clock, cost=10.0)
    store.put("a")
    store.put("b")
    listing = Listing(store, clock)
    listing.look()
    before = listing.revision
    store.put("a", tags=("good",))
    del store.found["b"]
    listing.renew(["a", "b"])
    changes = listing.since(before)
    assert ([run.tags for run in changes.changed], changes.gone) == ([("good",)], ["b"])
    assert [run.tags for run in listing.runs()] == [("good",)]
    assert store.whole == 1


def test_a_run_that_comes_again_is_not_gone(clock):
    store = Directory(clock)
    store.put("a")
    listing = Listing(store, clock)
    listing.look()
    del store.found["a"]
    listing.look(anew=True)
    store.put("a")
    listing.look(anew=True)
    changes = listing.since(1)
    assert ([run.name for run in changes.changed], changes.gone) == (["a"], [])


def test_what_a_run_said_last_is_in_its_line(tmp_path):
    write_run(tmp_path / "digits", 40)
    listing = Listing(Store(tmp_path))
    listing.look()
    (run,) = listing.runs()
    assert run.config == {"lr": 0.1}
    assert set(run.latest) >= {"loss", "grad_norm", "valid/accuracy", "learning_rate"}
    assert "grad_hist_1d" not in run.latest
    assert run.latest["loss"] == run.last_loss
    assert run.elapsed == pytest.approx(0.03 * 31)
