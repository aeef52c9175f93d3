"""Layer-wise quantities by module."""

import numpy as np
import pytest
from layered import BLOCKS, FROZEN, MODULES, PANELS, header, readings, write_layered

from cockpit.dashboard.layer_data import WHOLE, LayerData
from cockpit.dashboard.source import MOST_READINGS, Source
from cockpit.dashboard.sources import Sources
from cockpit.panel import LayerColumn
from cockpit.reading import Histogram, Reading
from cockpit.store import Header, Reader, Store, Writer


@pytest.fixture
def data(tmp_path):
    write_layered(tmp_path / "net")
    return LayerData(Sources(Store(tmp_path)).get("net"))


def column(data, id):
    declared, others = data.columns()
    return (declared | others)[id]


def test_modules_stand_in_the_order_of_the_model(data):
    assert data.modules == tuple(MODULES)


def test_the_columns_are_those_that_panels_declare_and_one_for_each_other_number(data):
    declared, others = data.columns()
    assert list(declared) == ["update", "magnitude", "trace:share", "moments.noise/moments.signal"]
    assert set(others) == {"magnitude.layer_zeros", "trace", "moments.noise", "moments.signal"}


def test_what_is_logged_of_instruments_is_not_about_layers(data):
    assert ("cockpit.interval", "layers") in data.source.series
    assert all(column.key != "cockpit.interval" for group in data.columns() for column in group.values())


def test_a_module_has_the_sum_of_its_parameters_where_that_is_declared(data):
    found = data.reading(column(data, "trace"), None)
    assert found.values[0].tolist() == [1 + 2 * depth + 2 + 2 * depth for depth in range(len(MODULES))]


def test_shares_add_up_to_one(data):
    found = data.history(column(data, "trace:share"))
    assert found.values.sum(1) == pytest.approx(np.ones(20))


def test_a_ratio_is_taken_of_the_modules_own_sums(data):
    assert data.reading(column(data, "moments.noise/moments.signal"), 50).values.tolist() == [[1.5] * len(MODULES)]


def test_of_histograms_the_median_of_all_of_a_modules_elements_is_shown(data):
    found = data.reading(column(data, "magnitude"), 0)
    random = np.random.default_rng(0)
    logged = readings(0, 100, random)["magnitude"].layers
    counts = logged["embed.weight"].counts + logged["embed.bias"].counts
    centres = np.repeat(np.arange(-23.5, 0.5), counts)
    assert found.values[0, 0] == pytest.approx(np.median(centres), abs=0.5)


def test_a_reading_is_that_of_the_step(data):
    frozen = list(MODULES).index(FROZEN)
    update = column(data, "update")
    assert data.reading(update, 49).steps.tolist() == [45]
    assert data.reading(update, 49).values[0, frozen] > 0
    assert data.reading(update, 50).values[0, frozen] == 0


def test_one_layers_histograms_are_its_own(data):
    found = data.histograms("magnitude", "head")
    assert list(found) == ["weight", "bias"]
    assert found["weight"].values.shape == (20, 1, 24)
    assert found["weight"].values[0, 0].sum() == 200
    assert data.histograms("nothing", "head") == data.histograms("update", "head") == {}
    assert data.has_histograms("magnitude", "head")
    assert not data.has_histograms("magnitude", "nothing")


def test_scales_are_those_that_columns_declare(data):
    scales = data.logarithmic()
    assert (scales["update"], scales["moments.noise"], scales["moments.signal"], scales["trace"]) == (
        True, True, True, False,
    )  # fmt: skip


def test_a_run_that_grows_is_read_on_and_stays_bounded(tmp_path):
    writer = Writer(tmp_path / "net", header("net"), flush_interval=0.05)
    random = np.random.default_rng(0)
    update = LayerColumn("u", "update")
    source = None
    for step in range(3 * MOST_READINGS):
        writer.put(step, 0.1 * step, {"update": readings(step, 10**6, random)["update"]})
        if step % 60 == 0:
            assert writer.flush()
            source = source or Source(Reader(tmp_path / "net"))
            source.refresh()
            found = LayerData(source).history(update)
            assert found.steps[-1] == step
            assert len(found.steps) <= 2 * MOST_READINGS
            assert np.isfinite(found.values).all()
    source.refresh()
    between = min(set(range(3 * MOST_READINGS)) - set(LayerData(source).history(update).steps.tolist()))
    assert LayerData(source).reading(update, between).steps.tolist() == [between]
    writer.close()


def test_layers_that_come_later_are_seen(tmp_path):
    writer = Writer(tmp_path / "net", Header("net", 0.0, panels={"update": PANELS["update"]}), flush_interval=0.05)
    writer.put(0, 0.0, {"update": Reading(1.0, {"a": 1.0})})
    assert writer.flush()
    source = Source(Reader(tmp_path / "net"))
    assert LayerData(source).history(LayerColumn("u", "update")).values.tolist() == [[1.0]]
    writer.put(1, 0.1, {"update": Reading(1.0, {"a": 1.0, "b": 2.0})})
    assert writer.flush()
    source.refresh()
    found = LayerData(source).history(LayerColumn("u", "update"))
    np.testing.assert_equal(found.values, [[1.0, np.nan], [1.0, 2.0]])
    writer.close()


def test_parameters_of_the_model_itself_have_a_name_for_it(tmp_path):
    model = {"parameters": [{"name": "scale", "module": "", "type": "Net", "shape": []}]}
    writer = Writer(tmp_path / "net", Header("net", 0.0, model=model), flush_interval=0.05)
    writer.put(0, 0.0, {"update": Reading(1.0, {"scale": 1.0})})
    writer.close()
    data = LayerData(Source(Reader(tmp_path / "net")))
    assert data.modules == (WHOLE,)
    assert list(data.numbers("update", WHOLE)) == ["scale"]


def test_histograms_whose_bins_change_have_medians(tmp_path):
    writer = Writer(tmp_path / "net", Header("net", 0.0), flush_interval=0.05)
    for step in range(3):
        bins = {name: Histogram(np.array([1, 1]), np.array([-1.0, 0.0, 1.0]) * 2**step + step) for name in "ab"}
        writer.put(step, 0.1, {"h": Reading(1.0, bins)})
    writer.close()
    found = LayerData(Source(Reader(tmp_path / "net"))).history(LayerColumn("h", "h"))
    assert found.values.tolist() == [[0, 0], [1, 1], [2, 2]]


def test_repeated_blocks_are_seen(data):
    assert sum(name.endswith(".norm") for name in data.modules) == BLOCKS


def test_a_modules_parameters_stand_in_the_models_order_in_whatever_order_they_are_logged(tmp_path):
    writer = Writer(tmp_path / "net", header("net"), flush_interval=0.05)
    one = Histogram(np.ones(4, int), np.arange(5.0))
    for key, of_one in (("update", 1.0), ("magnitude", one)):
        writer.put(0, 0.0, {key: Reading(of_one, {"head.bias": of_one, "head.weight": of_one})})
    writer.close()
    data = LayerData(Sources(Store(tmp_path)).get("net"))
    assert list(data.numbers("update", "head")) == list(data.histograms("magnitude", "head")) == ["weight", "bias"]
