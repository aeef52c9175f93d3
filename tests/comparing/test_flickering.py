"""Quantities that are so or not, runs that stop, and rounding: power and false entries where the answer is known."""

import numpy as np
import pytest

from cockpit.comparing.divergence import Points, first_divergence


def verdict_of(a, b):
    return first_divergence(*(Points(np.arange(len(each)), np.asarray(each, np.float64)) for each in (a, b)))


def flickering(random, shares):
    """0 or 1, the latter with the given probabilities."""
    return (random.random(len(shares)) < shares).astype(np.float64)


def lasting(random, shares):
    """The same, but for about four readings at a time."""
    found = flickering(random, shares)
    for at in range(1, len(found)):
        if random.random() < 0.75:
            found[at] = found[at - 1]
    return found


@pytest.mark.parametrize(
    ("process", "n", "share", "least"),
    [(flickering, 200, 0.6, 18), (flickering, 400, 0.3, 18), (flickering, 1000, 0.3, 18), (lasting, 1000, 0.7, 18)],
)
def test_what_comes_to_happen_more_often_is_found_within_a_tenth_of_the_run_in_nine_of_ten_pairs(
    process, n, share, least
):
    random, near = np.random.default_rng(0), 0
    for _ in range(20):
        usual = np.full(n, 0.03)
        step = verdict_of(process(random, usual), process(random, np.where(np.arange(n) < n // 2, 0.03, share))).step
        near += step is not None and abs(step - n // 2) <= n // 10
    assert near >= least


@pytest.mark.parametrize("process", [flickering, lasting])
def test_what_happens_as_often_is_apart_in_one_of_fifty_pairs_at_most(process):
    random, alarms = np.random.default_rng(0), 0
    for n in (60, 400):
        for share in (0.02, 0.1, 0.5):
            for _ in range(10):
                falling = share * np.linspace(2, 0.5, n)
                alarms += verdict_of(process(random, falling), process(random, falling)).step is not None
    assert alarms <= 1


def test_what_ceases_to_happen_in_one_run_alone_is_found():
    random = np.random.default_rng(0)
    ceasing = flickering(random, np.full(400, 0.3)) * (np.arange(400) < 200)
    assert verdict_of(ceasing, flickering(random, np.full(400, 0.3))).step == pytest.approx(200, abs=25)


@pytest.mark.parametrize("unit", [1.0, 1e-3, -7.0])
def test_it_does_not_matter_what_the_two_values_are(unit):
    random = np.random.default_rng(1)
    a = flickering(random, np.full(300, 0.05))
    b = flickering(random, np.where(np.arange(300) < 150, 0.05, 0.8))
    plain, scaled = verdict_of(a, b), verdict_of(unit * a + 2, unit * b + 2)
    assert (scaled.step, scaled.noises) == (plain.step, pytest.approx(plain.noises))
    assert scaled.chance == pytest.approx(plain.chance)


@pytest.mark.parametrize("still", [0.0, 0.7])
def test_a_run_that_stops_is_apart_from_where_it_does(still):
    """As the updates of a layer that is frozen in the midst of a training, beside those of another seed."""
    for seed in range(10):
        random = np.random.default_rng(seed)
        a, b = (np.exp(0.3 * random.normal(size=300)) + 1 for _ in range(2))
        b[180:] = still
        verdict = verdict_of(a, b)
        assert (verdict.step, verdict.chance) == (180, 0)


def test_a_share_of_few_that_stands_still_by_chance_has_not_stopped():
    random = np.random.default_rng(0)
    a, b = (random.binomial(8, 0.3, 300) / 8 for _ in range(2))
    a[265:], b[265:] = 0, random.binomial(8, 0.3, 35).clip(1) / 8
    verdict = verdict_of(a, b)
    assert verdict.step is None or verdict.chance > 0


def test_constants_that_differ_by_rounding_alone_are_together():
    random = np.random.default_rng(0)
    a, b = (np.float32(2) * (1 + random.integers(-2, 3, 200) * np.float64(2.0**-23)) for _ in range(2))
    b[150:] = 2 * (1 + 3 * 2.0**-23)
    assert verdict_of(a, b).step is None


def test_shares_that_stand_still_far_apart_are_found():
    """As how often gradients are clipped of a run in which none is, and of one in which all are."""
    random = np.random.default_rng(0)
    some, all_of_them = random.choice([0.0, 0.0, 0.15, 0.3], 60), np.ones(60)
    some[25:], all_of_them[:5] = 0, 0
    verdict = verdict_of(some, all_of_them)
    assert verdict.step == pytest.approx(5, abs=2)
    assert verdict.chance < 1e-4


def test_shares_of_few_units_that_stand_still_a_unit_or_two_apart_are_together():
    a, b = np.full(60, 2 / 32), np.full(60, 4 / 32)
    a[:10], a[10:20], b[:15], b[15:25] = 0, 1 / 32, 2 / 32, 3 / 32
    assert verdict_of(a, b).step is None


def test_a_run_that_stands_but_for_rounding_is_apart_from_one_that_moves_below():
    random = np.random.default_rng(0)
    capped = 2 * (1 - 2.0**-23 * random.integers(0, 4, 60))
    capped[:6] = random.uniform(0.1, 0.5, 6)
    verdict = verdict_of(capped, random.uniform(0.3, 1.6, 60))
    assert (verdict.step, verdict.chance) == (6, 0)


def held(random, n):
    """Quarters from 0 to 1, a new one at three of ten readings."""
    moves = (random.random(n) < 0.3) | (np.arange(n) == 0)
    return (random.integers(0, 5, n) / 4)[np.maximum.accumulate(np.where(moves, np.arange(n), 0))]


def test_shares_that_stand_most_of_the_time_are_apart_by_chance_in_one_of_fifty_pairs_at_most():
    """By their jumps or as shares: two tests, whose false entries come together."""
    random = np.random.default_rng(1)
    assert sum(verdict_of(held(random, 200), held(random, 200)).step is not None for _ in range(300)) <= 6


def test_no_chance_is_above_one():
    """As a part of what is unlikely goes to each of several tests, that of one may come to more."""
    x = np.arange(100)
    wave = np.sin(x / 20)
    there_and_back = 0.001 + 0.01 * ((x > 40) & (x <= 60))
    assert verdict_of(wave, wave + there_and_back).chance == 1
