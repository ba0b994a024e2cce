"""IDX images: MNIST and Fashion-MNIST, handwritten digits and pictures of clothes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from fnn.datasets.finding import (
    Remote,
    cache_folder,
    downloaded,
    given_folder,
    keras_folder,
)
from fnn.datasets.named import Pair, Split, as_in_keras
from fnn.utils.files import has_checksum

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
NAMES = ("x_train", "y_train", "x_test", "y_test")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

# By dataset and file: the SHA-256 of the file as it is served, compressed by gzip.
SUMS = {
    "mnist": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion_mnist": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
}
URLS = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion_mnist": "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
    "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/",
}


def _remotes(name: str) -> dict[str, Remote]:
    """The files of a dataset where they are served."""
    remotes = {}
    for file, checksum in zip(TRAIN + TEST, SUMS[name], strict=True):
        remotes[file] = Remote(f"{file}.gz", f"{URLS[name]}{file}.gz", checksum)
    return remotes


# Of the one file in which Keras keeps MNIST.
NPZ = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"

# A file without a checksum here is never downloaded.
SOURCES = {name: _remotes(name) for name in SUMS}


@as_in_keras
def mnist(path: str = "mnist.npz") -> Split:
    """Handwritten digits: `(x_train, y_train), (x_test, y_test)`. `mnist.load_data()` is the same.

    x `(60000, 28, 28)` and `(10000, 28, 28)` uint8 from 0 (background) to 255, y the digit, uint8.
    The files are read from `$FNN_DATA/mnist` (or from `$FNN_DATA`, if its last folder is `mnist`),
    else from Keras's cache (there `path` is the name; an absolute path is the file itself), else
    from the cache (`$FNN_CACHE/mnist` or `~/.cache/fnn/mnist`), else downloaded into the cache and
    checked against a known SHA-256.
    If `$FNN_DATA/mnist` has only the `t10k` files, their first 8,000 images are the training set
    and their last 2,000, which are easier, the test set.
    Raises FileNotFoundError that names each missing file and where to put it, ValueError for a
    damaged file. Source: LeCun, Cortes, Burges, The MNIST database of handwritten digits.

    >>> (x_train, y_train), (x_test, y_test) = fnn.datasets.mnist()
    >>> x_train.shape[1:], x_train.dtype.name  # bytes: divide by 255 before training
    ((28, 28), 'uint8')
    """
    archive = keras_folder() / path  # an absolute path stays as it is
    if archive != Path(path):
        if given_folder("mnist") is not None or not archive.is_file():
            return _load("mnist")
        if not has_checksum(archive, NPZ):
            return _load("mnist")
    with np.load(archive, allow_pickle=False) as file:
        x_train, y_train, x_test, y_test = (file[name] for name in NAMES)
    return (x_train, y_train), (x_test, y_test)


@as_in_keras
def fashion_mnist() -> Split:
    """Pictures of clothes in ten classes, in the same form as `mnist`.

    Classes 0 to 9: T-shirt, trousers, pullover, dress, coat, sandal, shirt, sneaker, bag, boot.
    Source: Xiao, Rasul, Vollgraf, Fashion-MNIST (2017), arXiv:1708.07747.

    >>> (x_train, y_train), _ = fnn.datasets.fashion_mnist()
    >>> x_train.shape[1:], y_train.shape == x_train.shape[:1]
    ((28, 28), True)
    """
    return _load("fashion_mnist")


def _load(name: str) -> Split:
    found: dict[str, Path] = {}
    given = given_folder(name)
    if given is not None:
        found = _found(given)
    if found.keys() == set(TEST):
        # Only the test files: their first four fifths become the training set.
        x, y = _pair(found, TEST)
        cut = len(x) * 4 // 5
        return (x[:cut], y[:cut]), (x[cut:], y[cut:])
    found = _of_keras(name) | _found(cache_folder(name)) | found
    missing = [file for file in TRAIN + TEST if file not in found]
    remotes = [SOURCES[name][file] for file in missing]
    found |= dict(zip(missing, downloaded(name, remotes), strict=True))
    return _pair(found, TRAIN), _pair(found, TEST)


def _of_keras(name: str) -> dict[str, Path]:
    """The files in Keras's cache that have the known checksums."""
    found = _found(keras_folder() / name.replace("_", "-"))
    return {
        file: path
        for file, path in found.items()
        if has_checksum(path, SOURCES[name][file].checksum)
    }


def _found(folder: Path) -> dict[str, Path]:
    """The files of a dataset that are in a folder; a compressed one is preferred."""
    found = {}
    for file in TRAIN + TEST:
        for path in (folder / file, folder / f"{file}.gz"):
            if path.is_file():
                found[file] = path
    return found


def _pair(found: dict[str, Path], names: tuple[str, str]) -> Pair:
    images, labels = (found[name] for name in names)
    x = read_idx(images, axes=3)  # (images, height, width)
    y = read_idx(labels, axes=1)  # (images,)
    if len(x) != len(y):
        raise ValueError(
            f"expected one label for each image, received {len(x)} images in {images} and "
            f"{len(y)} labels in {labels}; get both files again"
        )
    return x, y


def read_idx(path: str | Path, axes: int) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, compressed by gzip or not.

    The file has two zero bytes, the type (8: unsigned byte), the number of axes, the size of each
    axis as a big-endian 32-bit number, then the values.
    Raises ValueError that names the file if it is incomplete or has another number of axes.

    >>> size = Path("labels").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2]) + bytes([7, 3]))
    >>> read_idx("labels", axes=1).tolist()
    [7, 3]
    """
    path = Path(path)
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise _damaged(path, "a complete gzip file", str(error)) from error
    if data[:4] != bytes((0, 0, 8, axes)):
        magic = f"{0x800 + axes:08x}"
        expected = (
            f"an IDX file of unsigned bytes with {axes} axes (it starts with {magic})"
        )
        raise _damaged(path, expected, f"a start of {data[:4].hex() or 'nothing'}")
    start = 4 + 4 * axes
    if len(data) < start:
        raise _damaged(path, f"a header of {start} bytes", f"{len(data)} bytes")
    shape = struct.unpack(f">{axes}I", data[4:start])
    size = math.prod(shape)
    if len(data) - start != size:
        expected = f"{size} bytes after the header, for {shape}"
        raise _damaged(path, expected, f"{len(data) - start}")
    array = np.frombuffer(data, np.uint8, offset=start)
    return array.reshape(shape).copy()  # a writable copy


def _damaged(path: Path, expected: str, received: str) -> ValueError:
    return ValueError(
        f"{path}: expected {expected}, received {received}; the file is damaged, get it again"
    )
