from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from cockpit import Cockpit, load_run
from cockpit.layers import COMBINE, Layers, Owner, owners_of

nan, inf = float("nan"), float("inf")
EDGES = np.linspace(-1, 1, 4)
MODULES = {
    "embed": "Embedding", "layers.0.norm": "LayerNorm", "layers.0.linear": "Linear", "layers.1.norm": "LayerNorm",
    "layers.1.linear": "Linear", "layers.2.linear": "Linear", "head": "Linear",
}  # fmt: skip
MODEL = {
    "parameters": [
        {"name": f"{module}.{parameter}", "module": module, "type": kind}
        for module, kind in MODULES.items()
        for parameter in (("weight",) if kind == "Embedding" else ("weight", "bias"))
    ]
}
NAMES = tuple(entry["name"] for entry in MODEL["parameters"])


def layers(values, names=None, missing=None, **settings):
    values = np.asarray(values)
    gaps = np.zeros(values.shape[:2], dtype=bool) if missing is None else np.asarray(missing)
    names = tuple(names or (f"layer {k}" for k in range(values.shape[1])))
    steps = np.arange(len(values))
    return Layers(names, steps, 0.1 * steps, values, gaps, **settings)


def named(by):
    numbers = np.arange(len(NAMES), dtype=np.float64)[None]
    return layers(numbers, NAMES, owners=owners_of(MODEL)).grouped(by, "min")


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("type", ["Embedding", "LayerNorm", "Linear"]),
        ("parameter", ["Embedding.weight", "LayerNorm.weight", "LayerNorm.bias", "Linear.weight", "Linear.bias"]),
        ("block", ["embed", "layers.0", "layers.1", "layers.2", "head"]),
        (
            "position",
            ["embed.weight", "layers.[0-1].norm.weight", "layers.[0-1].norm.bias", "layers.[0-1].linear.weight",
             "layers.[0-1].linear.bias", "layers.2.linear.weight", "layers.2.linear.bias", "head.weight", "head.bias"],
        ),
        ("depth", list(MODULES)),
        (lambda name: name.rpartition(".")[2], ["weight", "bias"]),
    ],
)  # fmt: skip
def test_groups_stand_in_the_order_of_their_first_layer(by, groups):
    found = named(by)
    assert list(found.names) == groups
    assert found.values[0].tolist() == sorted(found.values[0].tolist())


def test_modules_are_grouped_like_their_parameters():
    modules = ("layers.0.norm", "layers.1.norm", "layers.1.linear")
    found = layers(np.ones((1, 3)), modules, owners=owners_of(MODEL))
    assert found.grouped("type").names == ("LayerNorm", "Linear")
    assert found.grouped("parameter").names == ("LayerNorm", "Linear")
    assert found.grouped("depth").names == modules


def test_layers_that_the_model_does_not_know_stand_alone():
    found = layers(np.ones((1, 2)), ("group 0", "group 1"), owners=owners_of(MODEL))
    for by in ("type", "parameter", "depth", "block", "position"):
        assert found.grouped(by).names == ("group 0", "group 1")


def test_blocks_repeat_only_with_the_same_names_and_types():
    owners = {"0.weight": Owner("0", "Conv2d", "weight"), "2.weight": Owner("2", "Conv2d", "weight"),
              "5.weight": Owner("5", "Linear", "weight"), "3.weight": Owner("3", "Conv2d", "weight")}  # fmt: skip
    found = layers(np.ones((1, 4)), tuple(owners), owners=owners).grouped("position")
    assert found.names == ("[0,2-3].weight", "5.weight")


def brute_force(values, gaps, how):
    """One group's value at one step: ``None`` where it is missing."""
    known = [float(value) for value, gap in zip(values, gaps, strict=True) if not gap]
    if not known or (how in ("norm", "sum") and any(gaps)):
        return None
    if any(np.isnan(known)):
        return nan
    ordered, n = sorted(known), len(known)
    return {
        "norm": lambda: sum(value**2 for value in known) ** 0.5,
        "sum": lambda: sum(known),
        "mean": lambda: sum(known) / n,
        "median": lambda: (ordered[(n - 1) // 2] + ordered[n // 2]) / 2,
        "min": lambda: ordered[0],
        "max": lambda: ordered[-1],
    }[how]()


@given(
    st.data(),
    st.sampled_from(COMBINE),
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6).filter(lambda shape: shape[1] > 0),
)
def test_groups_match_brute_force(data, how, shape):
    numbers = st.one_of(st.floats(-1e6, 1e6), st.just(nan))
    values = data.draw(hnp.arrays(np.float64, shape, elements=numbers))
    gaps = data.draw(hnp.arrays(bool, shape))
    labels = data.draw(st.lists(st.sampled_from("abc"), min_size=shape[1], max_size=shape[1]))
    names = tuple(f"{label}{index}" for index, label in enumerate(labels))
    found = layers(np.where(gaps, nan, values), names, gaps).grouped(lambda name: name[0], how)
    assert list(found.names) == list(dict.fromkeys(labels))
    assert found.values.shape == found.missing.shape == (shape[0], len(found.names))
    for step in range(shape[0]):
        for column, group in enumerate(found.names):
            members = [index for index, label in enumerate(labels) if label == group]
            expected = brute_force(values[step, members], gaps[step, members], how)
            assert found.missing[step, column] == (expected is None)
            np.testing.assert_allclose(found.values[step, column], nan if expected is None else expected, atol=1e-6)


def test_a_norm_neither_overflows_nor_hides_a_nan_behind_an_infinity():
    found = layers([[1e200, 1e200], [inf, nan], [inf, 1.0]], "ab").grouped(lambda name: "all", "norm")
    np.testing.assert_allclose(found.values[:, 0], [2**0.5 * 1e200, nan, inf])


@given(hnp.arrays(np.int64, (3, 4, 5), elements=st.integers(0, 1000)), hnp.arrays(bool, (3, 4)))
def test_histograms_are_added(counts, gaps):
    counts[gaps] = 0
    found = layers(counts, "abcd", gaps, edges=np.arange(6.0)).grouped(lambda name: "left" if name in "ab" else "right")
    expected = np.stack([counts[:, :2].sum(1), counts[:, 2:].sum(1)], axis=1)
    missing = np.stack([gaps[:, :2].any(1), gaps[:, 2:].any(1)], axis=1)
    np.testing.assert_array_equal(found.missing, missing)
    np.testing.assert_array_equal(found.values, np.where(missing[:, :, None], 0, expected))


def test_histograms_with_bins_of_their_own_are_added_only_where_these_agree():
    edges = np.stack([np.stack([EDGES, EDGES, 2 * EDGES])] * 2)
    found = layers(np.ones((2, 3, 3), np.int64), "aab", edges=edges)
    added = found.grouped(lambda name: name)
    assert added.values[:, 0].tolist() == [[2, 2, 2]] * 2
    np.testing.assert_array_equal(added.edges[:, 1], [2 * EDGES] * 2)
    with pytest.raises(ValueError, match="group 'all' have different bins"):
        found.grouped(lambda name: "all")
    with pytest.raises(ValueError, match="only be added"):
        found.grouped("type", "median")


def test_pairs_are_added_too():
    pairs = layers(np.ones((1, 2, 3, 2), np.int64), "ab", edges=EDGES, y_edges=np.arange(3.0))
    assert pairs.grouped(lambda name: "all").values.tolist() == [[[[2, 2]] * 3]]


def test_mistakes_are_refused_in_words():
    with pytest.raises(ValueError, match="one of type, parameter, block, position, depth or a function, not by 'kind'"):
        layers([[1.0]]).grouped("kind")
    with pytest.raises(ValueError, match="one of norm, sum, mean, median, min, max, not by 'total'"):
        layers([[1.0]]).grouped("type", "total")


def test_the_default_is_what_the_quantity_declares():
    values = layers([[3.0, 4.0]])
    assert values.grouped(lambda name: "all").values.tolist() == [[3.5]]
    assert replace(values, combine="norm").grouped(lambda name: "all").values.tolist() == [[5.0]]


def test_groups_of_a_run_add_up_to_the_network(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Cockpit(model, optimizer, run=tmp_path / "run", track=1) as cockpit:
        for _ in range(3):
            with cockpit.step():
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(3, (8,))).backward()
                optimizer.step()
    run = load_run(tmp_path / "run")
    for key in ("grad_norm", "update_size", "distance", "grad_hist_1d"):
        groups = run[key].layers.grouped("type")
        assert groups.names == ("Linear",)
        np.testing.assert_allclose(groups.values[:, 0], run[key].values, rtol=1e-6)
    assert run["norm_test.mean_sq_norm"].layers.combine == "sum"
    assert run["grad_norm"].layers.grouped("depth").names == ("0", "2", "4")
    ratio = run["update_weight_ratio"].layers
    np.testing.assert_allclose(ratio.grouped("type").values[:, 0], np.median(ratio.values, axis=1))
