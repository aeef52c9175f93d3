import numpy as np
import pytest
from drawn import plain_array, scalars

from cockpit.dashboard.theme import DARK, LIGHT, number, palette, plain, share, shorten, typed, up_to


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"), (1.0, "1"), (0.31237, "0.3124"), (-2.5, "−2.5"), (1234.6, "1,235"), (0.001, "0.001"),
        (1.234e-5, "1.23e−5"), (1.2e7, "1.20e7"), (float("nan"), "NaN"), (float("-inf"), "−∞"),
    ],
)  # fmt: skip
def test_numbers_read_like_numbers(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("part", "shown"), [(0, "0 %"), (1, "under 0.1 %"), (65, "6.5 %"), (500, "50 %"), (9999, "over 99.9 %")]
)
def test_shares_never_round_to_nothing_or_everything(part, shown):
    assert share(part, 10_000 if part in (1, 9999) else 1000) == shown


def test_markup_becomes_text():
    assert plain('<a href="x">&</a>') == '&lt;a href="x"&gt;&amp;&lt;/a&gt;'


def test_what_plotly_would_fill_in_stays_as_it_is():
    assert "%{" not in plain("%{y} %{customdata[0]}")


def test_control_characters_become_spaces():
    assert plain("a\nb\0c\u202ed") == "a b c d"


def test_long_names_keep_both_ends():
    assert shorten("encoder.layers.11.attention.weight", 15) == "encoder….weight"
    assert len(shorten("x" * 100, 15)) == 15


@pytest.mark.parametrize("values", [np.arange(5), np.array([2**40]), np.array([0.5, np.nan, np.inf]), np.zeros(0)])
def test_arrays_survive_the_way_to_the_browser(values):
    np.testing.assert_array_equal(plain_array(typed(values)), values)


def test_up_to_a_step_includes_it():
    column = scalars("loss", [1.0, None, 3.0])
    assert up_to(column, 10).steps.tolist() == [0, 10]
    assert up_to(column, 9).missing.tolist() == [False]
    assert up_to(column, -1).steps.tolist() == []
    assert up_to(column, None) is column


def luminance(colour):
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "muted", "run", "mark", "alarm"])
def test_colours_have_the_contrast_that_text_needs(colours, name):
    low, high = sorted((luminance(colours.paper), luminance(getattr(colours, name))))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_anything_but_dark_is_light():
    assert palette("dark") is DARK
    assert palette(None) is palette("blue") is LIGHT
