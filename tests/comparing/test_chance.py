"""Whether differences of two runs are chance, tried on processes whose answer is known."""

import numpy as np
import pytest

from cockpit.comparing.chance import LAST, change, even, jumps, probability, roughness
from cockpit.comparing.divergence import Points, first_divergence

PAIRS = 30


def white(random, n):
    return random.normal(size=n)


def dependent(correlation):
    def process(random, n):
        found = random.normal(size=n + 100)
        for at in range(1, len(found)):
            found[at] += correlation * found[at - 1]
        return found[100:]

    return process


def walk(random, n):
    return random.normal(size=n).cumsum()


def walk_under_noise(random, n):
    return 0.2 * walk(random, n) + random.normal(size=n)


def sum_of_dependent(random, n):
    return dependent(0.9)(random, n).cumsum()


def heavy_tails(random, n):
    return random.standard_t(3, size=n)


def walk_with_heavy_tails(random, n):
    return random.standard_t(4, size=n).cumsum()


def loss(random, n):
    """Falls, with noise that grows with it."""
    return np.exp(1 - np.linspace(0, 3, n) ** 0.5 + 0.2 * random.normal(size=n))


def quieter(random, n):
    """Around a trend, with noise that fades."""
    return np.linspace(3, 1, n) + np.exp(-3 * np.arange(n) / n) * random.normal(size=n)


def distance(random, n):
    """A sum of positive moves that become smaller."""
    return np.cumsum(np.exp(-2 * np.arange(n) / n) * random.lognormal(0, 0.5, n))


def norm(random, n):
    """Positive, and its logarithm walks."""
    return np.exp(0.05 * walk(random, n))


def dependent_loss(random, n):
    """Falls, with noise that depends on the reading before."""
    return np.exp(1 - np.linspace(0, 3, n) ** 0.5 + 0.2 * dependent(0.6)(random, n))


PROCESSES = [
    white, dependent(0.6), dependent(0.9), dependent(0.95), dependent(0.99), walk, walk_under_noise, sum_of_dependent,
    heavy_tails, walk_with_heavy_tails, loss, dependent_loss, quieter, norm, distance,
]  # fmt: skip


def apart(a, b):
    steps = np.arange(len(a))
    return first_divergence(Points(steps, a), Points(steps, b))


@pytest.mark.slow
def test_of_pairs_that_differ_by_chance_alone_two_of_a_hundred_are_apart_at_most():
    """Of all processes and lengths together; where noise hides a walk or sums wander, up to one of ten."""
    rates = []
    for process in PROCESSES:
        random, alarms = np.random.default_rng(0), []
        for n in (40, 100, 250):
            alarms += [apart(process(random, n), process(random, n)).step is not None for _ in range(PAIRS)]
        rates.append(np.mean(alarms))
    assert np.mean(rates) <= 0.02
    assert max(rates) <= 0.1


def found_near(change_of, process, n, late):
    """In how many of forty pairs the second half is told apart, no more than so many readings too early or too late."""
    random, time, found = np.random.default_rng(7), np.arange(n) - n // 2, 0
    for _ in range(40):
        verdict = apart(process(random, n), change_of(time, process(random, n)))
        found += verdict.step is not None and -n // 12 <= verdict.step - n // 2 <= late
    return found


@pytest.mark.parametrize("process", [white, dependent(0.6), heavy_tails])
def test_a_shift_is_found_within_a_twelfth_of_the_run_in_nine_of_ten_pairs(process):
    assert found_near(lambda time, noise: noise + 5.0 * (time >= 0), process, 300, 25) >= 36


@pytest.mark.parametrize("process", [white, dependent(0.6), heavy_tails])
def test_a_slope_is_found_when_it_has_risen_out_of_the_noise(process):
    assert found_near(lambda time, noise: noise + 0.15 * np.maximum(time, 0), process, 300, 45) >= 36


@pytest.mark.parametrize("process", [white, dependent(0.6)])
@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_a_run_that_comes_to_fluctuate_more_or_less_is_found(process, factor):
    assert found_near(lambda time, noise: np.where(time >= 0, factor * noise, noise), process, 800, 66) >= 36


def test_a_layer_that_dies_is_found_although_it_had_no_noise():
    """Dead units are few and change seldom; then more die, a few at a time."""
    random, found, alarms = np.random.default_rng(3), 0, 0
    for _ in range(50):
        healthy, other, dying = (np.cumsum(random.random(300) < 0.01) / 128 for _ in range(3))
        dying = dying + np.minimum(np.cumsum((np.arange(300) >= 150) * random.poisson(0.7, 300)), 100) / 128
        verdict = apart(healthy, dying)
        found += verdict.step is not None and verdict.step <= 165
        alarms += apart(healthy, other).step is not None
    assert found >= 45
    assert alarms <= 1


def test_a_run_whose_increments_grow_parts_although_both_are_sums():
    random, found = np.random.default_rng(4), 0
    for _ in range(40):
        factor = np.where(np.arange(300) >= 150, 3.0, 1.0)
        a, b = (np.cumsum(scale * random.lognormal(0, 0.5, 300)) for scale in (1.0, factor))
        verdict = apart(a, b)
        found += verdict.step is not None and abs(verdict.step - 150) <= 25
    assert found >= 36


def test_a_shift_is_found_where_it_begins():
    random = np.random.default_rng(0)
    differences = random.normal(size=200) + 8 * (np.arange(200) >= 120)
    found = change(differences)
    assert found.at == 120
    assert probability(found.ratio) < 1e-6


def test_the_last_readings_make_no_change_of_their_own():
    random = np.random.default_rng(0)
    differences = random.normal(size=60)
    differences[-LAST + 1 :] += 30
    assert change(differences).at <= 60 - LAST


def test_a_lone_outlier_is_no_change():
    random = np.random.default_rng(0)
    for process in (white, walk):
        differences = process(random, 200)
        differences[80] += 100
        assert probability(change(differences).ratio) > 0.01


@pytest.mark.parametrize("process", [white, walk])
def test_noise_that_fades_is_evened(process):
    random = np.random.default_rng(0)
    fading = np.exp(-4 * np.arange(400) / 400)
    moves = np.abs(
        np.diff(even(fading * random.normal(size=400) if process is white else (fading * white(random, 400)).cumsum()))
    )
    assert 0.7 < moves[:200].mean() / moves[200:].mean() < 1.4


def test_what_stands_still_has_no_roughness():
    random = np.random.default_rng(0)
    assert roughness(random.normal(size=300), np.ones(300)) is None
    assert roughness(random.normal(size=20), random.normal(size=20)) is None


def test_which_of_two_runs_is_rougher_does_not_depend_on_which_comes_first():
    for seed in range(20):
        u, v = np.random.default_rng(seed).normal(size=(2, 300))
        np.testing.assert_array_equal(roughness(u, v)[0], -roughness(v, u)[0])


def test_jumps_that_cancel_are_chance_and_those_that_add_up_are_none():
    moves = np.zeros(300)
    moves[10:290:14] = 1.0
    assert jumps(np.cumsum(moves)) < 1e-3
    moves[10:290:28] = -1.0
    assert jumps(np.cumsum(moves)) > 0.1
    assert jumps(np.zeros(300)) == 1
