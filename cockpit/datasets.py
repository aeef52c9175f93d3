"""Small image data sets that need no download: scikit-learn's digits, MNIST's IDX files, arrays in an ``.npz``.

Pixels stay raw, 0 to 255, until :meth:`Images.scaled` is asked for: forgetting that is a bug worth showing.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_IDX_UINT8 = 0x08
_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class DataError(ValueError):
    """A data file does not hold what its name or header promises."""


@dataclass(frozen=True)
class Images:
    """Images with their classes, split into training and validation.

    Args:
        name: What they are called in a run's configuration.
        x_train: Raw pixels, 0 to 255. Shape ``[N, channels, height, width]``.
        y_train: Class of each image. Shape ``[N]``.
        x_valid: As ``x_train``, for validation.
        y_valid: As ``y_train``, for validation.

    Raises:
        DataError: If images and classes differ in number or the arrays in their number of axes.
    """

    name: str
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_valid: NDArray[np.uint8]
    y_valid: NDArray[np.int64]

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.x_train, self.y_train), ("valid", self.x_valid, self.y_valid)):
            if x.ndim != 4 or y.shape != x.shape[:1]:
                raise DataError(f"{self.name}: {part} images of shape {x.shape} do not go with classes {y.shape}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.x_train.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """Number of classes, one more than the largest label."""
        return int(max(self.y_train.max(), self.y_valid.max())) + 1

    def shrunk(self, factor: int) -> Images:
        """Smaller images: means over squares of pixels, rounded.

        Args:
            factor: Width of a square.

        Raises:
            DataError: If images cannot be cut into such squares.
        """
        if factor < 1 or any(size % factor for size in self.shape[1:]):
            raise DataError(f"{self.name}: images of {self.shape[1:]} pixels cannot be cut into squares of {factor}")

        def means(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
            channels, height, width = self.shape
            cut = pixels.reshape(-1, channels, height // factor, factor, width // factor, factor)
            found: NDArray[np.uint8] = np.rint(cut.mean((3, 5), dtype=np.float32)).astype(np.uint8)
            return found

        return Images(self.name, means(self.x_train), self.y_train, means(self.x_valid), self.y_valid)

    @staticmethod
    def scaled(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels as the numbers in [0, 1] that usual learning rates expect. Any shape."""
        return pixels.astype(np.float32) / np.float32(255)

    @staticmethod
    def raw(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels as floating-point numbers with the scaling forgotten, 0 to 255. Any shape."""
        return pixels.astype(np.float32)


def digits(valid_share: float = 0.2) -> Images:
    """The 1,797 real 8 × 8 images of handwritten digits that come with scikit-learn.

    Args:
        valid_share: Share of the images, taken from the end, that is kept for validation.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.rint(data.images[:, None] * (255 / 16)).astype(np.uint8)  # stored with 17 grey levels
    labels = data.target.astype(np.int64)
    cut = round(len(pixels) * (1 - valid_share))
    return Images("digits", pixels[:cut], labels[:cut], pixels[cut:], labels[cut:])


def mnist(directory: str | Path) -> Images:
    """MNIST, or any data set of the same form such as Fashion-MNIST, from its four IDX files.

    Args:
        directory: Where ``train-images-idx3-ubyte`` and the other three lie, compressed (``.gz``) or not.

    Raises:
        FileNotFoundError: If one of the four is not there.
        DataError: If one is not an IDX file of bytes, or images and labels do not go together.
    """
    x_train, y_train, x_valid, y_valid = (read_idx(_plain_or_gz(Path(directory), name)) for name in _MNIST_FILES)
    return Images("mnist", x_train[:, None], y_train.astype(np.int64), x_valid[:, None], y_valid.astype(np.int64))


def from_npz(path: str | Path) -> Images:
    """Images from an ``.npz`` with ``x_train``, ``y_train``, ``x_test`` and ``y_test``, channels last, as bytes.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If one of the four arrays is missing.
    """
    with np.load(path) as arrays:
        missing = {"x_train", "y_train", "x_test", "y_test"} - set(arrays)
        if missing:
            raise DataError(f"{path} has no array {', '.join(sorted(missing))}; there are: {', '.join(arrays)}")
        x_train, x_test = (np.ascontiguousarray(arrays[key].transpose(0, 3, 1, 2)) for key in ("x_train", "x_test"))
        y_train, y_test = (arrays[key].astype(np.int64) for key in ("y_train", "y_test"))
    return Images(Path(path).stem, x_train, y_train, x_test, y_test)


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """An array of bytes in the IDX format: two zero bytes, type, number of axes, big-endian sizes, data.

    Args:
        path: The file; one that ends in ``.gz`` is decompressed.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it is no IDX file, holds another type than bytes, or ends early.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse_idx(file, path)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is not a complete gzip file: {error}") from error


def _parse_idx(file: BinaryIO | gzip.GzipFile, path: Path) -> NDArray[np.uint8]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{path} is not an IDX file: it starts with {magic!r}, two zero bytes were expected")
    if magic[2] != _IDX_UINT8:
        raise DataError(f"{path} holds elements of IDX type {magic[2]:#04x}; only unsigned bytes (0x08) are read")
    header = file.read(4 * magic[3])
    shape = tuple(int(size) for size in np.frombuffer(header[: len(header) // 4 * 4], dtype=">u4"))
    data = file.read()
    if len(shape) != magic[3] or len(data) != math.prod(shape):
        raise DataError(f"{path} promises an array of shape {shape} and holds {len(data)} elements: it is cut off")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _plain_or_gz(directory: Path, name: str) -> Path:
    for candidate in (directory / name, directory / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"there is no {name} or {name}.gz in {directory}; MNIST needs {', '.join(_MNIST_FILES)}")
