import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from paper import check_texts, curve_run, drawn, panel, texts, write_run
from synthetic import INSTRUMENTS, Training, tracked
from synthetic import write_run as write_training

from cockpit.reading import Histogram, Histogram2d, Reading

nan, inf = float("nan"), float("inf")
EDGES = np.linspace(-1, 1, 21)
LONG = "encoder.layers.11.self_attention.projection.query_key_value.weight_normalised"

values = st.one_of(st.none(), st.floats(width=32), st.sampled_from([0.0, 1.0, 1e-30, 1e30, -1.0]))


def test_the_check_of_overlaps_finds_overlaps_and_clipped_text():
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, "one")
    check_texts(figure)
    figure.text(0.12, 0.52, "two")
    with pytest.raises(AssertionError, match="'one' stands on 'two'"):
        check_texts(figure)
    edge = Figure(figsize=(2, 1))
    edge.text(0.9, 0.5, "beyond the edge")
    with pytest.raises(AssertionError, match="over the right edge"):
        check_texts(edge)


@pytest.mark.parametrize("fault", [False, True])
def test_a_training_runs_texts_stand_apart(tmp_path, fault):
    write_training(tmp_path / "run", 400, fault=fault)
    figure = drawn(tmp_path / "run")
    check_texts(figure)
    assert {"Step size", "Gradients"} <= set(texts(figure))
    assert "Curvature" not in texts(figure)


def test_the_whole_screens_texts_stand_apart_in_three_named_columns(tmp_path):
    training, random = Training(), np.random.default_rng(0)
    curvature = {name: panel(title=name, yscale="log") for name in ("hess_max_ev", "hess_trace", "tic_diag")}
    panels = {**INSTRUMENTS, **curvature, "grad_hist_2d": panel("histogram2d", xlabel="weight", ylabel="gradient")}
    points = []
    for step in tracked(300):
        pairs = Histogram2d(random.integers(0, 99, (20, 20)), EDGES, EDGES)
        noisy = {name: Reading(float(random.lognormal(0, 1))) for name in curvature}
        points.append((step, {**training.readings(step), **noisy, "grad_hist_2d": Reading(pairs)}))
    run = write_run(tmp_path / "run", panels, points, [(step, training.metrics(step)) for step in range(0, 300, 20)])
    figure = drawn(run)
    check_texts(figure)
    assert {"Step size", "Gradients", "Curvature"} <= set(texts(figure))


def test_steps_can_stand_on_a_logarithmic_axis(tmp_path):
    write_training(tmp_path / "run", 400)
    figure = drawn(tmp_path / "run", show_log_iter=True)
    check_texts(figure)
    assert any(axes.get_xscale() == "symlog" for axes in figure.axes)


@pytest.mark.parametrize(
    "values",
    [
        [1.0], [None], [nan], [inf, -inf], [0.0] * 5, [128.0] * 50, [-3.0, -2.0], [1e-30, 1e30], [1e300, -1e300],
        [1.0, 1.0 + 1e-9], [123456.789, 123456.790], [None, 2.0, None], [1.0, nan, 2.0, inf, None, 3.0],
        [1e-12 * k for k in range(20)], [5e-324], [0.02 + 1e-5 * k for k in range(9)],
    ],
)  # fmt: skip
@pytest.mark.parametrize("yscale", ["linear", "log"])
def test_texts_stand_apart_whatever_the_numbers_are(tmp_path, values, yscale):
    check_texts(drawn(curve_run(tmp_path / "run", values, yscale=yscale)))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.tuples(st.integers(0, 10**12), values), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_texts_stand_apart_for_ragged_series(tmp_path_factory, points, log, log_steps):
    steps = [step for step, _ in points]
    run = curve_run(
        tmp_path_factory.mktemp("run"), [value for _, value in points], steps, yscale="log" if log else "linear"
    )
    check_texts(drawn(run, show_log_iter=log_steps))


@pytest.mark.parametrize("step", [0, 7, 10**6, 10**12])
def test_ticks_of_steps_are_different_whole_numbers(tmp_path, step):
    (axes,) = drawn(curve_run(tmp_path / "run", [1.0, 2.0, 4.0], [step, step + 1, step + 3])).axes
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert [float(label.replace(",", "")) for label in labels] == list(axes.get_xticks())
    assert len(set(labels)) == len(labels) >= 2


def test_names_of_any_length_and_script_stay_within_their_room(tmp_path):
    names = {LONG: panel(title="T" * 300), "$x^2$ \n<b>": panel(title="漢字 $\\alpha$", ylabel="‖g‖ " * 80)}
    points = [(step, {name: Reading(1.0 * step) for name in names}) for step in range(5)]
    metrics = [(0, {f"{'very/' * 30}long/{'name' * 20}": 1.0, **{f"split {k}/loss": 1.0 * k for k in range(12)}})]
    run = write_run(tmp_path / "run", names, points, metrics, name="run " * 100)
    figure = drawn(run)
    check_texts(figure)
    assert any("□□ $\\alpha$" in text for text in texts(figure))


def test_many_metrics_make_the_page_higher_and_the_rest_is_named(tmp_path):
    metrics = [(0, {f"metric {k}": 1.0 * k for k in range(30)})]
    figure = drawn(write_run(tmp_path / "run", {}, [(0, {"loss": Reading(1.0)})], metrics))
    check_texts(figure)
    assert any(text.startswith("19 more in the log: ") for text in texts(figure))


def test_a_run_that_logged_nothing_says_so(tmp_path):
    figure = drawn(write_run(tmp_path / "run", {"a": panel()}, []))
    assert "Nothing was logged yet." in texts(figure)
    assert figure.axes == []


def test_panels_without_points_leave_no_room_behind(tmp_path):
    panels = {name: panel(title=name) for name in ("grad_norm", "hess_trace", "tic_diag")}
    whole = drawn(write_run(tmp_path / "whole", panels, [(0, {name: Reading(1.0) for name in panels})]))
    part = drawn(write_run(tmp_path / "part", panels, [(0, {"grad_norm": Reading(1.0)})]))
    assert {"Step size", "Curvature"} <= set(texts(whole))
    assert "Curvature" not in texts(part)
    assert part.get_figwidth() < whole.get_figwidth()


def test_a_users_own_instrument_stands_below_the_screen_unless_it_is_left_out(tmp_path):
    from cockpit import CockpitPlotter

    run = write_run(
        tmp_path / "run", {"mine": panel(title="My own")}, [(0, {"mine": Reading(1.0), "loss": Reading(1.0)})]
    )
    assert {"More", "My own"} <= set(texts(drawn(run)))
    figure = CockpitPlotter(secondary_screen=False).plot(run, show_plot=False)
    assert not {"More", "My own"} & set(texts(figure))


def test_a_panel_of_a_kind_from_a_later_version_says_so(tmp_path):
    run = write_run(tmp_path / "run", {"a": panel("hologram")}, [(0, {"a": Reading(1.0)})], screen=False)
    figure = drawn(run)
    assert any("cannot draw panels of kind “hologram”" in text for text in texts(figure))


def test_several_histograms_of_a_panel_stand_apart(tmp_path):
    keys = ("first", "second", "third")
    histogram = Histogram(np.arange(20, dtype=np.int64) * 10**7, EDGES)
    points = [(0, {key: Reading(histogram) for key in keys}), (9, {"second": Reading(None)})]
    figure = drawn(write_run(tmp_path / "run", {"a": panel("histogram", keys=keys)}, points, screen=False))
    check_texts(figure)
    assert "second is missing at step 9" in texts(figure)
