"""When the budget has instruments read, on a machine with a clock of its own."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import ALPHA, ECONOMY, FULL, LOSS, RATIO, SECONDS, TOP, TRACE, Machine

from cockpit.tracking.budget import LONGEST_STREAK
from cockpit.tracking.costs import INDIVIDUAL, MOVEMENT, STEP, Later
from cockpit.tracking.plan import Job

DEAR = {STEP: 4.0, INDIVIDUAL: 8.0, MOVEMENT: 0.5, "norms": 0.2, "moments": 2.0, "elements": 10.0, "slopes": 5.0}
"""Logistic regression: a plain step is over in no time."""


def longest_streak(machine: Machine) -> int:
    return max((len(list(run)) for tracked, run in itertools.groupby(map(bool, machine.parts)) if tracked), default=0)


@pytest.mark.parametrize("seconds", [SECONDS, DEAR, {STEP: 0.5}, {STEP: 2e-3, "eigenvalues": 3.0}])
@pytest.mark.parametrize("jobs", [ECONOMY, FULL, (LOSS,), (ALPHA,)])
def test_training_is_at_most_as_much_slower_as_the_budget_allows(jobs, seconds):
    machine = Machine(jobs, seconds=seconds).run(1500)
    assert machine.slowdown <= 0.105
    assert machine.budget.spent / 1500 <= 0.105


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 1.0])
def test_most_of_the_budget_is_used(share):
    machine = Machine(share=share).run(3000)
    assert 0.4 * share <= machine.slowdown <= 1.02 * share


def test_the_first_500_steps_stay_within_the_budget_with_all_that_is_read_once():
    assert Machine(FULL).run(500).slowdown <= 0.1
    assert Machine(ECONOMY, once=30.0).run(500).slowdown <= 0.1
    first = 2 * sum(DEAR.values())  # a window of two, which nothing tells beforehand
    assert Machine(ECONOMY, seconds=DEAR).run(500).slowdown <= max(0.1, first / 500)


def test_cheap_instruments_are_read_more_often_than_dear_ones():
    intervals = Machine(FULL).run(1000).budget.plan.intervals()
    assert intervals["loss"] <= intervals["test"] <= intervals["histogram"] <= intervals["top"]
    assert intervals["loss"] < intervals["top"]


def test_an_instrument_dearer_than_the_whole_budget_is_rare_and_spares_the_others():
    machine = Machine((LOSS, TOP), seconds={STEP: 0.05, "eigenvalues": 200.0}).run(20_000)
    assert machine.slowdown <= 0.1
    assert 2 <= len(machine.steps_of("top")) <= 10
    assert len(machine.steps_of("loss")) >= 20 * len(machine.steps_of("top"))


def test_what_costs_next_to_nothing_is_read_at_every_step_but_one_in_eight():
    machine = Machine((LOSS,), seconds={STEP: 1e-4}).run(800)
    assert len(machine.steps_of("loss")) >= 0.85 * 800
    assert longest_streak(machine) == LONGEST_STREAK


def test_every_instrument_is_read_early_and_the_heavy_ones_one_after_the_other():
    machine = Machine(FULL).run(40)
    first = {job.name: machine.steps_of(job.name)[0] for job in FULL}
    assert {first[job.name] for job in ECONOMY} == {0}
    assert first["trace"] == first["ratio"]  # what one needs the other has
    assert 0 < first["trace"] < first["top"] < 40
    assert not any(due >= {"trace", "top"} for due in machine.begun)


def test_shared_parts_are_charged_once():
    alone, both = (Machine(jobs).run(2000).budget.plan.intervals() for jobs in ((TRACE,), (TRACE, RATIO)))
    assert both["trace"] == both["ratio"] == alone["trace"]


def test_both_steps_of_a_window_are_charged():
    short = Job("short", ALPHA.parts - {"alpha"} | {"short"})
    one, two = (Machine((job,)).run(2000).budget for job in (short, ALPHA))
    assert two.costs()["alpha"] == pytest.approx(2 * one.costs()["short"])
    assert two.plan.intervals()["alpha"] == pytest.approx(2 * one.plan.intervals()["short"], rel=0.15)


def test_what_the_further_steps_of_a_window_do_is_charged_for_itself():
    less = Job("less", ALPHA.parts - {"alpha"}, window=2, later=frozenset({STEP, Later("slopes")}))
    seconds = {**SECONDS, Later("slopes"): 0.04}
    one, other = (Machine((job,), seconds=seconds).run(2000) for job in (less, ALPHA))
    cost = sum(seconds[part] for part in (STEP, INDIVIDUAL, MOVEMENT, "slopes", STEP, Later("slopes")))
    assert one.budget.costs()["less"] == pytest.approx(cost)
    assert len(one.steps_of("less")) > 1.5 * len(other.steps_of("alpha"))
    assert 0.08 < one.slowdown <= 0.1


def test_a_run_is_told_what_each_instrument_costs():
    costs = Machine().run(1000).budget.costs()
    assert costs["loss"] == pytest.approx(SECONDS[STEP] / len(ECONOMY), abs=0.02)
    assert costs["histogram"] == pytest.approx(SECONDS["elements"] + SECONDS[INDIVIDUAL] / 3, abs=0.02)
    assert sum(costs.values()) == pytest.approx(
        sum(SECONDS[part] for part in (STEP, INDIVIDUAL, MOVEMENT, "norms", "moments", "elements", "slopes"))
        + sum(SECONDS[part] for part in (STEP, INDIVIDUAL, MOVEMENT, "slopes")),
        rel=1e-6,
    )


def test_what_happens_once_is_no_cost():
    plain, compiling = (Machine(once=once).run(1000).budget for once in (0.0, 500.0))
    assert compiling.plan.intervals() == plain.plan.intervals()
    assert compiling.costs() == pytest.approx(plain.costs())


def test_noise_changes_little():
    quiet = Machine().run(3000).budget.plan.intervals()
    machine = Machine(noise=0.1).run(3000)
    assert machine.slowdown <= 0.11
    assert machine.budget.plan.intervals()["alpha"] <= 2 * quiet["alpha"]


@pytest.mark.parametrize("seed", range(5))
def test_spikes_of_the_machine_are_not_charged_to_the_instruments(seed):
    machine = Machine(spikes=0.03, seed=seed).run(1500)
    quiet = Machine().run(1500)
    assert len(machine.steps_of("alpha")) >= 0.6 * len(quiet.steps_of("alpha"))
    assert machine.extra / 1500 <= 0.1
    assert machine.budget.overhead() == pytest.approx(0.09, abs=0.03)


@pytest.mark.parametrize(
    "plain", [lambda step: 1 + 3 * (step > 700), lambda step: 4 - 3 * (step > 700), lambda step: 1 + step / 500]
)
def test_steps_may_change_in_length(plain):
    machine = Machine(plain=plain).run(2000)
    assert machine.slowdown <= 0.105
    assert machine.budget.plan.intervals() == pytest.approx(Machine().run(2000).budget.plan.intervals(), rel=0.5)


def test_a_cost_that_grows_is_met_with_longer_intervals():
    seconds = dict(SECONDS)
    machine = Machine(seconds=seconds).run(1000)
    before = machine.budget.plan.intervals()
    seconds[INDIVIDUAL] = 3.0
    spent = machine.extra
    machine.run(3000)
    assert machine.budget.plan.intervals()["test"] > 1.5 * before["test"]
    assert (machine.extra - spent) / 3000 <= 0.13


def test_one_step_in_eight_is_left_alone_whatever_the_budget():
    machine = Machine(ECONOMY, share=100.0).run(500)
    assert longest_streak(machine) == LONGEST_STREAK
    wide = Job("wide", frozenset({STEP, "wide"}), window=20)
    machine = Machine((wide, LOSS), share=100.0).run(500)
    assert len(machine.steps_of("wide")) > 5
    assert sum(map(bool, machine.parts)) <= 7 / 8 * 500 + 20


def test_instruments_with_a_schedule_of_their_own_cost_the_budget_nothing():
    fixed = frozenset({STEP, "norms", "own"})
    machine = Machine(fixed=lambda step: fixed if step % 5 == 0 else frozenset()).run(2000)
    assert machine.slowdown <= 0.1
    assert machine.budget.spent / 2000 <= 0.1
    assert machine.budget.overhead() > machine.budget.spent / 2000


def test_where_every_step_is_tracked_anyway_those_steps_are_the_yardstick():
    machine = Machine(fixed=lambda step: frozenset({STEP, "norms", "own"})).run(2000)
    assert 0.04 <= machine.slowdown <= 0.11
    assert machine.budget.overhead() is None


@pytest.mark.parametrize("idle", [0.01, 0.04])
def test_what_leaving_steps_alone_takes_is_part_of_the_budget(idle):
    machine = Machine(seconds=DEAR, idle=idle).run(5000)
    assert 0.06 <= machine.slowdown <= 0.105
    assert machine.budget.overhead() == pytest.approx(machine.slowdown, abs=0.02)


def test_where_leaving_steps_alone_takes_more_than_the_budget_half_of_it_is_left_for_readings():
    machine = Machine(idle=0.3).run(5000)
    assert 0.02 <= machine.extra / machine.base <= 0.055
    assert machine.budget.overhead() == pytest.approx(machine.slowdown, rel=0.1)


@pytest.mark.parametrize("after", [0, 400])
def test_what_the_logs_thread_does_is_charged_whenever_it_comes_to_it(after):
    """It begins with ten milliseconds, half a second after the run: after thousands of steps, where steps are short."""
    machine = Machine(plain=lambda step: 1e-3, log=lambda step: 0.01 + 2e-6 * step if step > after else 0.0).run(2000)
    assert machine.slowdown <= 0.105
    assert Machine(plain=lambda step: 1e-3).run(400).budget.spent >= 10


def test_without_jobs_nothing_is_due_and_the_overhead_is_known_all_the_same():
    machine = Machine((), fixed=lambda step: frozenset({STEP, "own"}) if step % 4 == 0 else frozenset()).run(200)
    assert not any(machine.begun)
    assert machine.budget.plan is None
    assert machine.budget.overhead() == pytest.approx(SECONDS[STEP] / 4, rel=0.1)


def test_what_cannot_begin_has_had_its_turn():
    machine = Machine((LOSS, TRACE)).run(1)
    while "trace" not in machine.budget.due():
        machine.run(1)
    machine.budget.given_up()
    machine.budget.untracked(1.0)
    assert "trace" not in machine.budget.due()
    machine.run(100)
    assert machine.budget.settled
    assert len(machine.steps_of("loss")) > 10


def test_asking_again_changes_nothing():
    machine = Machine().run(100)
    for _ in range(50):
        assert machine.budget.due() == machine.budget.due()
        machine.run(1)


costs = st.floats(0.0, 30.0)


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(dict.fromkeys(SECONDS, costs)),
    st.sets(st.sampled_from(FULL), min_size=1),
    st.floats(0.02, 1.0),
    st.floats(0.0, 0.1),
)
def test_whatever_things_cost_the_budget_holds(seconds, jobs, share, noise):
    machine = Machine(sorted(jobs, key=lambda job: job.name), share, seconds=seconds, noise=noise).run(500)
    # Before anything is measured every instrument is read once, and what was dear beyond belief once more.
    seen_once = sum(sum(seconds.get(part, 0.0) for part in job.parts) * job.window for job in jobs)
    assert machine.extra <= 1.1 * share * 500 + 1.1 * seen_once
    assert longest_streak(machine) <= LONGEST_STREAK
    assert all(machine.steps_of(job.name) for job in jobs if seen_once < share * 100)


def test_while_a_reading_waits_to_be_afforded_steps_are_not_burdened_with_arithmetic(monkeypatch):
    machine = Machine(seconds=DEAR, once=100.0).run(20)
    machine.budget.due()
    for name in ("of", "doubtful", "share"):
        monkeypatch.setattr(machine.budget._costs, name, None)
    machine.run(100)
    assert not any(machine.begun[20:])
