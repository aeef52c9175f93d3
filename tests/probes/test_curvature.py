"""Traces of a curvature matrix, and how far they can be trusted."""

import pytest
import torch

from cockpit.probes.curvature import Curvature, block_sums

NAMES = ("weight", "bias")


def estimated(draws):
    return Curvature(NAMES, torch.tensor(draws, dtype=torch.float64), "hutchinson", exact=False)


def test_estimates_are_means_over_draws_and_errors_shrink_with_their_number():
    found = estimated([[1.0, 7.0], [3.0, 1.0], [5.0, 4.0]])
    assert found.by_layer() == {"weight": 3.0, "bias": 4.0}
    assert found.total() == 7.0
    assert found.errors_by_layer() == {"weight": pytest.approx(2 / 3**0.5), "bias": pytest.approx(3 / 3**0.5)}


def test_the_error_of_the_total_knows_that_blocks_share_their_draws():
    assert estimated([[1.0, 9.0], [9.0, 1.0]]).total_error() == 0.0
    assert estimated([[1.0, 1.0], [3.0, 3.0]]).total_error() == pytest.approx(2.0)


def test_a_single_draw_says_nothing_about_its_error():
    found = estimated([[1.0, 7.0]])
    assert found.total_error() is None
    assert found.errors_by_layer() == {"weight": None, "bias": None}


def test_what_is_exact_has_no_error():
    found = Curvature(NAMES, torch.tensor([[1.0, -7.0]], dtype=torch.float64), "products", exact=True)
    assert (found.total(), found.total_error()) == (-6.0, 0.0)
    assert found.errors_by_layer() == {"weight": 0.0, "bias": 0.0}


def test_only_numbers_outlive_the_step():
    diagonal = (torch.ones(2, 3), torch.ones(3))
    found = Curvature(NAMES, block_sums(diagonal).unsqueeze(0), "products", exact=True, diagonal=diagonal).on_host()
    assert found.diagonal == ()
    assert found.by_layer() == {"weight": 6.0, "bias": 3.0}


def test_sums_over_many_coordinates_are_taken_in_double_precision():
    values = torch.full((1 << 20,), 0.1)
    (found,) = block_sums([values])
    assert found.item() == pytest.approx(float(values[0]) * (1 << 20), rel=1e-12)
