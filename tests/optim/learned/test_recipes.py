import numpy as np
import pytest

from cockpit.optim.learned import L2OLSTMRule, Weights
from cockpit.optim.learned.command import learn


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def few_images(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (9, 2, 2)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(9) % 3)
    return tmp_path


def test_a_recipe_of_images_learns_on_those_that_are_given(few_images, tmp_path):
    out = learn("l2o_lstm", episodes=1, out=tmp_path / "w.pt", logdir=str(tmp_path), quiet=True, data_dir=few_images)
    provenance = Weights.load(out, L2OLSTMRule).provenance
    assert provenance["tasks"] == ["mnist, 4-20-3 leaky_relu, batches of 128, training loss"]
    assert provenance["iterations"] == 1


def test_images_are_refused_where_none_are_learned_on(few_images, tmp_path):
    with pytest.raises(ValueError, match="ml3 does not learn on images; --data-dir is for l2o_lstm, hier"):
        learn("ml3", out=tmp_path / "w.pt", data_dir=few_images)
    assert not (tmp_path / "w.pt").exists()
