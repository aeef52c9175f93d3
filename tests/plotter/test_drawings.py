"""What is drawn has the numbers that were logged."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.patches import StepPatch
from paper import axes_with, check_texts, curve_run, drawn, lines, panel, texts, write_run

from cockpit.drawing.positions import GRID
from cockpit.plotter.scene import MOST_POINTS
from cockpit.reading import Histogram, Histogram2d, Reading

nan, inf = float("nan"), float("inf")

ragged = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@ragged
@given(st.lists(st.one_of(st.none(), st.floats(width=32)), min_size=1, max_size=8))
def test_a_curve_has_a_gap_where_a_value_is_missing_or_not_finite(tmp_path_factory, values):
    figure = drawn(curve_run(tmp_path_factory.mktemp("run"), values))
    expected = [nan if value is None or not np.isfinite(value) else value for value in values]
    steps, heights = lines(figure)["a"]
    assert steps == list(range(len(values)))
    np.testing.assert_array_equal(heights, expected)
    crosses = [step for step, value in enumerate(values) if value is not None and not np.isfinite(value)]
    assert [step for steps, _ in lines(figure, "broken").values() for step in steps] == crosses


def test_a_single_point_is_a_dot(tmp_path):
    assert list(lines(drawn(curve_run(tmp_path / "run", [None, 2.0, None])), "lone").values()) == [([1], [2.0])]


def test_a_logarithmic_axis_says_what_it_cannot_show_and_falls_back_where_it_shows_nothing(tmp_path):
    figure = drawn(curve_run(tmp_path / "some", [1.0, -2.0, 0.0, 3.0], yscale="log"))
    assert figure.axes[0].get_yscale() == "log"
    assert "a: 2 at or below 0, which a log axis cannot show" in texts(figure)
    assert drawn(curve_run(tmp_path / "none", [-1.0, -2.0], yscale="log")).axes[0].get_yscale() == "linear"


def test_noise_is_drawn_faint_behind_its_average(tmp_path):
    values = np.random.default_rng(0).normal(5, 1, 200).tolist()
    figure = drawn(curve_run(tmp_path / "run", values))
    (average,) = lines(figure, "average").values()
    assert np.std(average[1][20:]) < 0.5 * np.std(values)
    (curve,) = (line for line in figure.axes[0].lines if line.get_gid() == "curve")
    assert curve.get_alpha() < 0.5


def test_a_long_curve_is_thinned_and_keeps_its_spike(tmp_path):
    values = np.zeros(20_000)
    values[12_345] = 7.0
    steps, heights = lines(drawn(curve_run(tmp_path / "run", values.tolist())))["a"]
    assert len(steps) <= MOST_POINTS
    assert heights[steps.index(12_345)] == 7.0


def test_metrics_of_one_name_share_a_strip_and_are_told_apart(tmp_path):
    metrics = [(step, {"train/loss": 1.0 * step, "valid/loss": 2.0 * step}) for step in range(3)]
    figure = drawn(write_run(tmp_path / "run", {}, [(0, {"loss": Reading(1.0)})], metrics))
    (shared,) = (axes for axes in figure.axes if len([line for line in axes.lines if line.get_gid() == "curve"]) == 2)
    drawn_lines = {line.get_label(): line for line in shared.lines}
    assert np.asarray(drawn_lines["valid"].get_ydata()).tolist() == [0, 2, 4]
    assert drawn_lines["train"].get_linestyle() != drawn_lines["valid"].get_linestyle()
    assert any("train 2" in text and "valid 4" in text for text in texts(figure))


def test_a_panels_reference_is_a_line_with_its_meaning_below(tmp_path):
    figure = drawn(curve_run(tmp_path / "run", [0.1, 1.0], references=((0.7, "noise = signal"), (99.0, "far"))))
    (reference,) = (line for line in figure.axes[0].lines if line.get_gid() == "reference")
    assert np.asarray(reference.get_ydata()).tolist() == [0.7, 0.7]
    assert "dashed: noise = signal; far: 99, beyond the axis" in texts(figure)


def test_a_reference_without_a_label_needs_no_words(tmp_path):
    figure = drawn(curve_run(tmp_path / "run", [-1.0, 1.0], references=((0.0, ""),)))
    assert [line.get_gid() for line in figure.axes[0].lines] == ["curve", "reference"]
    assert not any("dashed" in text for text in texts(figure))


@ragged
@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=6), st.booleans())
def test_a_histogram_has_the_logged_counts(tmp_path_factory, counts, log):
    edges = np.linspace(-1, 2, len(counts) + 1)
    histogram = Histogram(np.array(counts, dtype=np.int64), edges)
    panels = {"h": panel("histogram", yscale="log" if log else "linear")}
    older = Reading(Histogram(histogram.counts[::-1] + 1, edges))
    points = [(0, {"h": older}), (10, {"h": Reading(histogram)})]
    figure = drawn(write_run(tmp_path_factory.mktemp("run"), panels, points, screen=False))
    check_texts(figure)
    (bars,) = (patch for patch in axes_with(figure, "h").patches if isinstance(patch, StepPatch))
    np.testing.assert_array_equal(bars.get_data().values, counts)
    np.testing.assert_array_equal(bars.get_data().edges, edges)


@ragged
@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_a_histogram_of_pairs_has_the_logged_counts_and_both_marginals(tmp_path_factory, rows, columns, seed, log):
    counts = np.random.default_rng(seed).integers(0, 50, (rows, columns))
    x_edges, y_edges = np.linspace(-1, 1, rows + 1), np.linspace(0, 3, columns + 1)
    panels = {"p": panel("histogram2d", yscale="log" if log else "linear", xlabel="weight", ylabel="gradient")}
    points = [(3, {"p": Reading(Histogram2d(counts, x_edges, y_edges))})]
    figure = drawn(write_run(tmp_path_factory.mktemp("run"), panels, points, screen=False))
    check_texts(figure)
    density = axes_with(figure, "density")
    np.testing.assert_array_equal(np.ma.filled(density.collections[0].get_array(), 0), counts.T)
    assert (density.get_xlabel(), density.get_ylabel()) == ("weight", "gradient")
    for side, axis in (("vertical", 1), ("horizontal", 0)):
        (bars,) = axes_with(figure, side).patches
        np.testing.assert_array_equal(bars.get_data().values, counts.sum(axis))


@pytest.mark.parametrize(
    ("most", "labels"), [(1, ["1"]), (9, ["1"]), (10, ["1", "10¹"]), (123_456, ["1", "10⁵"]), (10**12, ["1", "10¹²"])]
)
def test_a_histogram_of_pairs_has_a_legend_of_its_colours(tmp_path, most, labels):
    counts = np.array([[0, 1], [most, 0]], np.int64)
    pairs = Histogram2d(counts, np.linspace(-1, 1, 3), np.linspace(-256, 256, 3))
    points = [(598, {"p": Reading(pairs), "p.samples": Reading(8.0)})]
    figure = drawn(write_run(tmp_path / "run", {"p": panel("histogram2d", yscale="log")}, points, screen=False))
    check_texts(figure)
    (colours,) = axes_with(figure, "density").collections
    legend = axes_with(figure, "legend")
    (bar,) = legend.collections
    assert (bar.norm, bar.cmap) == (colours.norm, colours.cmap)
    assert legend.get_xlim() == pytest.approx((0.5, max(2, most)))
    assert [label.get_text() for label in legend.get_xticklabels()] == labels
    assert "pairs" in texts(figure)


def test_words_about_a_histogram_of_pairs_are_never_cut(tmp_path):
    counts = np.full((3, 3), 10**9, np.int64)
    points = [(123_456_789, {"p": Reading(Histogram2d(counts, np.linspace(-1, 1, 4), np.linspace(-1e-7, 1e-7, 4)))})]
    found = texts(drawn(write_run(tmp_path / "run", {"p": panel("histogram2d")}, points, screen=False)))
    assert "Step 123,456,789: 9,000,000,000 pairs," in found
    assert not any("…" in text for text in found)


def test_a_missing_histogram_of_pairs_is_said(tmp_path):
    pairs = Histogram2d(np.ones((2, 2), np.int64), np.arange(3.0), np.arange(3.0))
    points = [(0, {"p": Reading(pairs)}), (5, {"p": Reading(None)})]
    figure = drawn(write_run(tmp_path / "run", {"p": panel("histogram2d")}, points, screen=False))
    assert "p is missing at step 5" in texts(figure)


def gauge_run(directory, norm, inner, ortho):
    keys = ("norm_test", "inner_test", "ortho_test")
    readings = {key: Reading(value) for key, value in zip(keys, (norm, inner, ortho), strict=True)}
    return write_run(directory, {"tests": panel("gauge", keys=keys)}, [(0, readings)], screen=False)


def test_the_gauge_has_a_circle_around_the_arrows_tip_and_two_bands(tmp_path):
    figure = drawn(gauge_run(tmp_path / "run", 0.5, 0.3, 0.4))
    check_texts(figure)
    shapes = {patch.get_label(): patch.get_xy() for axes in figure.axes for patch in axes.patches}
    np.testing.assert_allclose(np.hypot(*(shapes["norm test, radius"] - (0, 1)).T), 0.5)
    assert set(np.abs(shapes["inner test, along"][:, 1] - 1).round(9)) == {0.3}
    assert set(np.abs(shapes["orthogonality test, across"][:, 0]).round(9)) == {0.4}


def test_a_test_that_is_missing_or_infinite_has_no_shape_and_is_said(tmp_path):
    figure = drawn(gauge_run(tmp_path / "run", inf, None, 0.4))
    check_texts(figure)
    assert [patch.get_label() for patch in figure.axes[0].patches] == ["orthogonality test, across"]
    assert "norm_test is ∞; inner_test is missing" in texts(figure)


def alpha_run(directory, values, **companions):
    points = [
        (step, {"alpha": Reading(value, parts={name: flags[step] for name, flags in companions.items()})})
        for step, value in enumerate(values)
    ]
    return write_run(directory, {"alpha": panel("parabola")}, points, screen=False)


def test_the_density_of_all_steps_and_of_the_last_peak_where_they_end(tmp_path):
    random = np.random.default_rng(0)
    values = [*random.normal(-0.5, 0.1, 180), *random.normal(0.6, 0.05, 20)]
    figure = drawn(alpha_run(tmp_path / "run", values))
    check_texts(figure)
    curves = {line.get_gid(): line for line in figure.axes[0].lines}
    assert GRID[np.argmax(curves["all"].get_ydata())] == pytest.approx(-0.5, abs=0.05)
    assert GRID[np.argmax(curves["last"].get_ydata())] == pytest.approx(0.6, abs=0.05)
    assert np.ravel(curves["this step"].get_xdata()).tolist() == [values[-1]]


def test_few_steps_are_points_on_the_parabola_and_concave_ones_have_none(tmp_path):
    figure = drawn(alpha_run(tmp_path / "run", [0.5, -1.0, None], concave=[0.0, 1.0, None]))
    (points,) = (line for line in figure.axes[0].lines if line.get_gid() == "points")
    assert np.asarray(points.get_xydata()).tolist() == [[0.5, 0.25]]
    assert any(text.startswith("3 tracked steps: median 0.5, 33 % concave, 33 % missing") for text in texts(figure))
