"""Deviations from symmetries, against directions along which the loss is seen not to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import by_layer, logged, record, record_steps
from symmetric import IMAGES, LABELS, RESCALED, SCALED, SHIFTED, Case, Direction, Signs, loss, three_layers
from torch import nn

RESCALE, SCALE, TRANSLATION = "rescale_symmetry", "scale_symmetry", "translation_symmetry"
CASES = [
    *((RESCALE, name, case) for name, case in RESCALED.items()),
    *((SCALE, name, case) for name, case in SCALED.items()),
    *((TRANSLATION, name, case) for name, case in SHIFTED.items()),
]


def dot(left: Direction, right: Direction) -> float:
    return sum(float((value * right[name]).sum()) for name, value in left.items())


def length(values: Direction, direction: Direction) -> float:
    """Of what the direction is about."""
    found = [value[direction[name] != 0] for name, value in values.items() if name in direction]
    return float(torch.cat(found).norm())


@pytest.mark.parametrize(("key", "name", "case"), CASES, ids=[f"{key}, {name}" for key, name, _ in CASES])
def test_gradients_keep_symmetries_and_sign_updates_break_them_by_what_brute_force_says(
    key: str, name: str, case: Case, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = case.network().double()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.01 * torch.randn_like(p)  # what begins at zero would have no direction
    truth: dict[str, list[tuple[float, float]]] = {}

    def step(_: int, *__: Any) -> None:
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        directions = {layer: [make(model, j) for j in range(units)] for layer, (units, make) in case.layers.items()}
        optimizer.zero_grad()
        loss(model).backward()
        gradient = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        moved = {n: before[n] - p.detach() for n, p in model.named_parameters()}
        for layer, found in directions.items():
            for direction in found:
                assert abs(dot(direction, gradient)) < 1e-13, "the loss changes along the direction"
            along = [(dot(v, moved), length(moved, v) * length(v, v)) for v in found]
            truth[layer] = [(abs(d), abs(d) / lengths) for d, lengths in along if lengths > 0]  # else it is dead

    optimizer = Signs(model.parameters())
    run = record_steps(tmp_path, model, optimizer, range(1), step, instruments=key)
    sums, medians = by_layer(run, f"{key}.layer_sum", 0), by_layer(run, key, 0)
    assert list(medians) == list(truth)
    for layer, found in truth.items():
        assert sums[layer] == pytest.approx(sum(d for d, _ in found), rel=1e-9), layer
        assert medians[layer] == pytest.approx(np.median([cosine for _, cosine in found]), rel=1e-9), layer
    every = [cosine for found in truth.values() for _, cosine in found]
    assert logged(run, key, 0) == pytest.approx(np.median(every), rel=1e-9)
    assert logged(run, f"{key}.q95", 0) == pytest.approx(np.quantile(every, 0.95), rel=1e-9)
    assert logged(run, f"{key}.sum", 0) == pytest.approx(sum(sums.values()))
    assert logged(run, key, 0) > 1e-3
    assert logged(run, f"{key}.gradient", 0) < 1e-13


def test_gradient_descent_keeps_all_symmetries_to_rounding(tmp_path: Path) -> None:
    names = (RESCALE, SCALE, TRANSLATION)
    run = record(tmp_path, three_layers(), range(3), loss, instruments=list(names))
    for key in names:
        assert (run[key].values < 1e-11).all(), key
        assert (run[f"{key}.sum"].values < 1e-13).all(), key


def test_a_bias_before_batch_normalisation_is_left_out(tmp_path: Path) -> None:
    """Its gradient is rounding, which Adam makes a step of full size of."""
    model = three_layers()
    run = record(tmp_path, model, range(1), loss, torch.optim.Adam(model.parameters(), lr=1e-3), instruments=SCALE)
    torch.manual_seed(0)
    twin = three_layers()
    before = twin[0].weight.detach().clone()
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-3)
    loss(twin).backward()
    optimizer.step()
    along = ((before - twin[0].weight.detach()) * before).flatten(1).sum(1)
    assert logged(run, f"{SCALE}.sum", 0) == pytest.approx(float(along.abs().sum()), rel=1e-9)


@pytest.mark.parametrize(("momentum", "tied"), [(0.0, True), (0.9, True), (0.9, False)])
def test_weight_decay_is_taken_out_of_the_translation(momentum: float, tied: bool, tmp_path: Path) -> None:
    model = three_layers()
    last = model[-1]
    with torch.no_grad():
        last.weight += 0.3  # sums that decay has something to shrink of
    plain = [p for p in model.parameters() if p is not last.weight and not (tied and p is last.bias)]
    decayed = [last.weight, last.bias] if tied else [last.weight]
    groups = [{"params": plain}, {"params": decayed, "weight_decay": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=momentum)
    run = record(tmp_path, model, range(3), loss, optimizer, instruments=TRANSLATION)
    assert (run[TRANSLATION].values < 1e-11).all()
    assert by_layer(run, f"{TRANSLATION}.decay", 0)["6.weight"] == pytest.approx(0.01, rel=1e-6)


def test_weight_decay_shows_in_the_other_symmetries(tmp_path: Path) -> None:
    model = three_layers()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    run = record(tmp_path, model, range(1), loss, optimizer, instruments=[RESCALE, SCALE])
    squares = 0.01 * before["0.weight"].square().flatten(1).sum(1)
    assert logged(run, f"{SCALE}.sum", 0) == pytest.approx(float(squares.sum()), rel=1e-9)
    into = before["4.weight"].square().sum(1) + before["4.bias"].square() - before["6.weight"].square().sum(0)
    expected = 0.01 * float(into.abs().sum())
    assert by_layer(run, f"{RESCALE}.layer_sum", 0)["4.weight"] == pytest.approx(expected, rel=1e-9)


def micro_batches(model: nn.Module, _: Any) -> None:
    for x, y in zip(IMAGES.split(2), LABELS.split(2), strict=True):
        (F.cross_entropy(model(x), y) / 3).backward()


def scaled(model: nn.Module, _: Any) -> None:
    (loss(model) * 1024).backward()
    for p in model.parameters():
        p.grad /= 1024


def clipped(model: nn.Module, _: Any) -> None:
    loss(model).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.01)


@pytest.mark.parametrize("backward", [micro_batches, scaled, clipped])
def test_updates_and_gradients_are_whole_and_unscaled(backward: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = RESCALED["ReLU"].network().double()
    optimizer = Signs(model.parameters())

    def plain(_: int) -> None:
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()

    def other(batch: int) -> None:
        optimizer.zero_grad()
        backward(model, batch)
        optimizer.step()

    state = {name: value.clone() for name, value in model.state_dict().items()}
    found = []
    for place, step in (("plain", plain), ("other", other)):
        model.load_state_dict(state)
        (tmp_path / place).mkdir()
        run = record_steps(tmp_path / place, model, optimizer, range(1), step, instruments=[RESCALE, TRANSLATION])
        found.append(run)
    for key in (RESCALE, TRANSLATION, f"{RESCALE}.sum"):
        assert logged(found[1], key, 0) == pytest.approx(logged(found[0], key, 0), rel=1e-9), key
    for key in (RESCALE, TRANSLATION):
        assert logged(found[1], f"{key}.gradient", 0) < 1e-13, key


def test_in_half_precision_the_gradient_keeps_them_as_far_as_that_rounds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = RESCALED["convolutions"].network()

    def step(_: int) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            value = F.cross_entropy(model(IMAGES.float()), LABELS)
        (value * 512).backward()
        optimizer.step()

    optimizer = Signs(model.parameters())
    run = record_steps(tmp_path, model, optimizer, range(1), step, instruments=[RESCALE, TRANSLATION])
    for key in (RESCALE, TRANSLATION):
        assert logged(run, f"{key}.gradient", 0) < 2.0**-8 < logged(run, key, 0)


def test_nothing_that_moves_has_no_direction(tmp_path: Path) -> None:
    model = three_layers()
    run = record(tmp_path, model, range(1), loss, torch.optim.SGD(model.parameters(), lr=0.0), instruments=RESCALE)
    assert run[RESCALE].missing.all()
    assert "the parameters did not move" in [e.text for e in run._reader.events() if e.subject == RESCALE]


def test_what_is_not_finite_shows(tmp_path: Path) -> None:
    run = record(tmp_path, three_layers(), range(1), lambda m, b: loss(m) * float("nan"), instruments=RESCALE)
    assert np.isnan(run[RESCALE].values).all()
    assert not run[RESCALE].missing.any()
