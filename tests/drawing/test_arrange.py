import pytest

from cockpit.drawing.arrange import BOOKKEEPING, arrange, expected, keys_of
from cockpit.panel import Panel, Place, Screen
from cockpit.screens import CLASSIC, NOW, PANELS, SCREENS
from cockpit.tracking import bookkeeping

ECONOMY = ("loss", "time", "distance", "update_size", "grad_norm", "norm_test", "inner_test", "ortho_test",
           "grad_hist_1d", "alpha")  # fmt: skip


def panel(**settings):
    return Panel(title="A panel", kind="lines", how_to_read="Read it.", **settings)


def declared(*instruments):
    return {**{name: panel() for name in instruments}, **PANELS}


def cells(arrangement):
    return [
        (column, row)
        for place in arrangement.places
        for column in range(place.column, place.column + place.width)
        for row in range(place.row, place.row + place.height)
    ]


def test_a_panel_without_keys_reads_its_own_name():
    assert keys_of("alpha", panel()) == ("alpha",)
    assert keys_of("both", panel(keys=("a", "b"))) == ("a", "b")


@pytest.mark.parametrize("count", range(len(ECONOMY) + 1))
def test_cells_are_filled_once_without_holes(count):
    arrangement = arrange(CLASSIC, expected(declared(*ECONOMY[:count]), ECONOMY[:count], BOOKKEEPING))
    filled = cells(arrangement)
    assert len(filled) == len(set(filled))
    rows = max((row for _, row in filled), default=-1) + 1
    assert len(filled) == rows * arrangement.columns


def test_economy_has_no_column_of_curvature():
    arrangement = arrange(CLASSIC, expected(declared(*ECONOMY), ECONOMY, BOOKKEEPING))
    assert arrangement.columns == 2
    assert [place.panel for place in arrangement.places if place.column == 0] == [
        "alpha", "distances", "grad_norm", "hyperparameters",
    ]  # fmt: skip


def test_the_whole_classic_screen_stands_as_published():
    names = (*ECONOMY, "grad_hist_2d", "hess_max_ev", "hess_trace", "tic_diag")
    arrangement = arrange(CLASSIC, declared(*names))
    assert {place.panel: place for place in arrangement.places} == {place.panel: place for place in CLASSIC.places}


def test_what_a_place_already_draws_is_not_drawn_again():
    arrangement = arrange(CLASSIC, declared(*ECONOMY), SCREENS)
    assert "norm_test" not in arrangement.names
    assert arrangement.rest == ("time", "overhead")


def test_what_another_screen_places_stays_there_except_the_users_metrics():
    panels = expected(declared(*ECONOMY, "my_instrument"), (*ECONOMY, "my_instrument"), BOOKKEEPING)
    arrangement = arrange(NOW, panels, SCREENS)
    assert set(arrangement.rest) == {"time", "overhead", "performance", "my_instrument"}


def test_now_has_two_rows_of_three_panels():
    arrangement = arrange(NOW, declared(*ECONOMY), SCREENS)
    assert sorted(cells(arrangement)) == [(column, row) for column in range(3) for row in range(2)]


def test_of_panels_in_the_same_cell_the_first_with_data_takes_it():
    both = arrange(NOW, declared(*ECONOMY, "hess_max_ev"), SCREENS)
    assert "sharpness" in {place.panel for place in both.places}
    assert "alpha_strip" in both.rest
    without = {name: panel for name, panel in declared(*ECONOMY).items() if name != "sharpness"}
    assert "alpha_strip" in {place.panel for place in arrange(NOW, without, SCREENS).places}


def test_a_users_own_instrument_stands_below():
    assert "my_instrument" in arrange(CLASSIC, declared(*ECONOMY, "my_instrument")).rest


def test_without_a_screen_all_panels_stand_in_groups():
    panels = {"a": panel(group="one"), "b": panel(group="two"), "c": panel(group="one")}
    assert arrange(None, panels).names == ("a", "c", "b")


def test_no_panels_make_an_empty_page():
    arrangement = arrange(CLASSIC, {})
    assert (arrangement.columns, arrangement.names) == (0, ())


def test_a_panel_below_a_wide_one_waits_for_it():
    places = (Place("a", 0, 0), Place("wide", 0, 1, width=2), Place("b", 1, 2))
    arrangement = arrange(Screen("s", 2, places), {"a": panel(), "wide": panel(), "b": panel()})
    assert {place.panel: place.row for place in arrangement.places} == {"a": 0, "wide": 1, "b": 2}


def test_before_the_first_point_panels_of_instruments_that_are_on_and_of_what_every_run_logs_are_expected():
    found = expected(declared("alpha"), ("alpha",), ())
    assert set(found) == {"alpha", "alpha_strip", "loss_curves", "hyperparameters", "overhead"}
    assert set(expected(declared("alpha"), ("alpha",), bookkeeping.KEYS)) == set(found)


def test_later_only_panels_with_points_or_instruments_are_expected():
    found = expected(declared("alpha"), ("alpha",), ("learning_rate",))
    assert set(found) == {"alpha", "hyperparameters", "alpha_strip", "loss_curves"}


def test_a_part_belongs_to_its_instrument():
    assert "share" in expected({"share": panel(keys=("alpha.concave",))}, ("alpha",), ("loss",))


def test_users_metrics_bring_the_panel_that_asks_for_them():
    found = expected({"performance": PANELS["performance"]}, (), ("valid/accuracy",), ("valid/accuracy",))
    assert set(found) == {"performance"}


def test_an_optional_panel_stays_out_until_it_has_a_value():
    panels = {"amp": panel(optional=True, keys=("amp", "amp.skipped")), "loss": panel()}
    assert list(expected(panels, ["amp", "loss"], [])) == ["loss"]
    assert list(expected(panels, ["amp", "loss"], ["amp", "loss"], defined=["loss"])) == ["loss"]
    assert list(expected(panels, ["amp", "loss"], ["amp", "loss"], defined=["amp"])) == ["amp", "loss"]
