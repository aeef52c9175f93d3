import gzip
import struct

import numpy as np
import pytest

from cockpit.datasets import DataError, Images, digits, from_npz, mnist, read_idx

MNIST_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array, type_code=0x08):
    return bytes([0, 0, type_code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def small_mnist(tmp_path):
    rng = np.random.default_rng(0)
    for name in MNIST_FILES:
        count = 5 if name.startswith("train") else 3
        shape = (count, 4, 6) if "images" in name else (count,)
        array = rng.integers(0, 10, shape, dtype=np.uint8)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path


def test_digits_are_real_images_with_raw_pixels():
    images = digits()
    assert images.shape == (1, 8, 8)
    assert images.classes == 10
    assert len(images.x_train) + len(images.x_valid) == 1797
    assert images.x_train.dtype == np.uint8
    assert images.x_train.max() == 255


def test_scaled_pixels_lie_between_zero_and_one_and_raw_ones_do_not():
    pixels = np.array([0, 51, 255], dtype=np.uint8)
    np.testing.assert_allclose(Images.scaled(pixels), [0, 0.2, 1], rtol=1e-6)
    np.testing.assert_array_equal(Images.raw(pixels), [0, 51, 255])
    assert Images.scaled(pixels).dtype == Images.raw(pixels).dtype == np.float32


def test_shrunk_images_are_means_over_squares():
    pixels = np.array([0, 4, 250, 250, 8, 12, 250, 252], dtype=np.uint8).reshape(1, 1, 2, 4)
    images = Images("few", pixels, np.zeros(1, np.int64), pixels, np.zeros(1, np.int64)).shrunk(2)
    assert images.x_train.tolist() == images.x_valid.tolist() == [[[[6, 250]]]]
    assert images.x_train.dtype == np.uint8
    for factor in (0, 3):
        with pytest.raises(DataError, match=f"few: images of .1, 2. pixels cannot be cut into squares of {factor}"):
            images.shrunk(factor)


def test_idx_is_read_compressed_and_plain(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "plain").write_bytes(idx(array))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(read_idx(tmp_path / "plain"), array)
    np.testing.assert_array_equal(read_idx(tmp_path / "packed.gz"), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"PNG!", "not an IDX file"),
        (idx(np.zeros(3, dtype=np.float32), type_code=0x0D), "IDX type 0x0d"),
        (idx(np.zeros(8, dtype=np.uint8))[:-1], "cut off"),
        (idx(np.zeros((2, 2), dtype=np.uint8))[:7], "cut off"),
    ],
)
def test_a_file_that_is_not_idx_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(DataError, match=f"images.*{message}"):
        read_idx(tmp_path / "images")


@pytest.mark.parametrize(
    "damage", [lambda data: b"no gzip", lambda data: data[:-9], lambda data: data[:12] + b"\xff" * 9]
)
def test_a_damaged_gzip_file_is_refused_by_name(tmp_path, damage):
    (tmp_path / "labels.gz").write_bytes(damage(gzip.compress(idx(np.arange(100, dtype=np.uint8)))))
    with pytest.raises(DataError, match=r"labels\.gz"):
        read_idx(tmp_path / "labels.gz")


def test_mnist_gains_a_channel_axis(small_mnist):
    images = mnist(small_mnist)
    assert images.shape == (1, 4, 6)
    assert images.x_train.shape == (5, 1, 4, 6)
    assert images.y_valid.dtype == np.int64


def test_a_missing_mnist_file_is_named(small_mnist):
    (small_mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="no t10k-labels-idx1-ubyte"):
        mnist(small_mnist)


def test_images_and_labels_of_different_number_are_refused(small_mnist):
    (small_mnist / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(4, dtype=np.uint8)))
    with pytest.raises(DataError, match="train images"):
        mnist(small_mnist)


def test_an_npz_turns_channels_first(tmp_path):
    x = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    np.savez(tmp_path / "pictures.npz", x_train=x, y_train=[0, 2], x_test=x[:1], y_test=[1])
    images = from_npz(tmp_path / "pictures.npz")
    assert (images.name, images.shape, images.classes) == ("pictures", (3, 3, 4), 3)
    np.testing.assert_array_equal(images.x_train[1, 2], x[1, :, :, 2])


def test_an_npz_without_the_four_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "pictures.npz", x_train=np.zeros(1))
    with pytest.raises(DataError, match="x_test, y_test, y_train"):
        from_npz(tmp_path / "pictures.npz")


def test_the_real_mnist_is_read(data_dir):
    images = mnist(data_dir / "mnist")
    assert images.x_train.shape == (60_000, 1, 28, 28)
    assert images.x_valid.shape == (10_000, 1, 28, 28)
    assert np.bincount(images.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_the_real_cifar_subset_is_read(data_dir):
    images = from_npz(data_dir / "cifar10_subset.npz")
    assert (images.shape, images.classes) == ((3, 32, 32), 10)
