"""Datasets: small datasets to learn and test with, as NumPy arrays."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from fnn.runtime.files import write_atomically
from fnn.runtime.optional import optional

Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
Split: TypeAlias = tuple[Pair, Pair]

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class _Source(NamedTuple):
    url: str
    sums: dict[str, str]  # the SHA-256 of each file as it is served, compressed by gzip


def _by_file(*sums: str) -> dict[str, str]:
    return dict(zip(TRAIN + TEST, sums, strict=True))


# A file without a checksum here is never downloaded.
_SOURCES = {
    "mnist": _Source(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        _by_file(
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    "fashion_mnist": _Source(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
        "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/",
        _by_file(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
}


class _Dataset(Protocol):
    load_data: Callable[[], Split]

    def __call__(self) -> Split: ...


def _as_in_keras(load: Any) -> _Dataset:
    """Adds Keras's form of the call, `mnist.load_data()`: there `mnist` is a module."""
    load.load_data = load
    dataset: _Dataset = load
    return dataset


@_as_in_keras
def mnist() -> Split:
    """Handwritten digits: `(x_train, y_train), (x_test, y_test)`. `mnist.load_data()` is the same.

    x `(60000, 28, 28)` and `(10000, 28, 28)` uint8 from 0 (background) to 255, y the digit, uint8.
    The files are read from `$FNN_DATA/mnist` (or from `$FNN_DATA`, if its last folder is `mnist`),
    else from the cache (`$FNN_CACHE/mnist` or `~/.cache/fnn/mnist`), else downloaded into the cache
    and checked against a known SHA-256.
    If `$FNN_DATA/mnist` has only the `t10k` files, their first 8,000 images are the training set
    and their last 2,000, which are easier, the test set.
    Raises FileNotFoundError that names each missing file and where to put it, ValueError for a
    damaged file. Source: LeCun, Cortes, Burges, The MNIST database of handwritten digits.

    >>> (x_train, y_train), (x_test, y_test) = fnn.datasets.mnist()
    >>> x_train.shape[1:], x_train.dtype.name  # bytes: divide by 255 before training
    ((28, 28), 'uint8')
    """
    return _load("mnist")


@_as_in_keras
def fashion_mnist() -> Split:
    """Pictures of clothes in ten classes, in the same form as `mnist`.

    Classes 0 to 9: T-shirt, trousers, pullover, dress, coat, sandal, shirt, sneaker, bag, boot.
    Source: Xiao, Rasul, Vollgraf, Fashion-MNIST (2017), arXiv:1708.07747.

    >>> (x_train, y_train), _ = fnn.datasets.fashion_mnist()
    >>> x_train.shape[1:], y_train.shape == x_train.shape[:1]
    ((28, 28), True)
    """
    return _load("fashion_mnist")


def digits(test_split: float = 0.2, seed: int = 0) -> Split:
    """1,797 handwritten digits of 8 by 8 pixels: `(x_train, y_train), (x_test, y_test)`.

    x `(n, 8, 8)` float32 from 0 to 16 (not 255), y the digit, int32. Needs scikit-learn, which
    contains the data: nothing is downloaded. `test_split` is the fraction used for testing.

    >>> (x_train, y_train), (x_test, y_test) = fnn.datasets.digits()
    >>> x_train.shape, x_test.shape
    ((1438, 8, 8), (359, 8, 8))
    """
    bunch = _scikit_learn().load_digits()
    x = bunch.images.astype("float32")
    y = bunch.target.astype("int32")
    return _split(x, y, test_split, seed)


def breast_cancer(test_split: float = 0.2, seed: int = 0) -> Split:
    """569 tumors by 30 measurements: `(x_train, y_train), (x_test, y_test)`.

    x `(n, 30)` float32, not scaled; y int32, 0 malignant and 1 benign. Needs scikit-learn.

    >>> (x_train, y_train), _ = fnn.datasets.breast_cancer()
    >>> x_train.shape
    (455, 30)
    """
    bunch = _scikit_learn().load_breast_cancer()
    x = bunch.data.astype("float32")
    y = bunch.target.astype("int32")
    return _split(x, y, test_split, seed)


def diabetes(test_split: float = 0.2, seed: int = 0) -> Split:
    """442 patients by 10 measurements: `(x_train, y_train), (x_test, y_test)`, a regression.

    x `(n, 10)` float32, each column centered and of norm 1; y float32, the progression of the
    disease in a year, 25 to 346. Needs scikit-learn.

    >>> (x_train, y_train), _ = fnn.datasets.diabetes()
    >>> x_train.shape
    (354, 10)
    """
    bunch = _scikit_learn().load_diabetes()
    x = bunch.data.astype("float32")
    y = bunch.target.astype("float32")
    return _split(x, y, test_split, seed)


def _scikit_learn() -> Any:
    with optional("scikit-learn", extra="datasets"):
        from sklearn import datasets

    return datasets


def _split(
    x: np.ndarray,
    y: np.ndarray,
    test_split: float,
    seed: int,
) -> Split:
    if not 0 < test_split < 1:
        raise ValueError(
            f"expected test_split to be between 0 and 1, received {test_split=}; "
            "e.g. test_split=0.2"
        )
    order = np.random.default_rng(seed).permutation(len(x))
    cut = len(x) - round(len(x) * test_split)
    train, test = order[:cut], order[cut:]
    return (x[train], y[train]), (x[test], y[test])


def _load(name: str) -> Split:
    found: dict[str, Path] = {}
    given = os.environ.get("FNN_DATA")
    if given:
        folder = Path(given).expanduser().absolute()
        found = _found(_folder(folder, name))
    if found.keys() == set(TEST):
        # Only the test files: their first four fifths become the training set.
        x, y = _pair(found, TEST)
        cut = len(x) * 4 // 5
        return (x[:cut], y[:cut]), (x[cut:], y[cut:])
    found = _found(_cache(name)) | found
    missing = [file for file in TRAIN + TEST if file not in found]
    found |= _download(name, missing)
    return _pair(found, TRAIN), _pair(found, TEST)


def _folder(data: Path, name: str) -> Path:
    """The folder of a dataset: `data / name`, or `data` itself if that is its name.

    The name decides, since all datasets have the same file names.
    """
    inside = data / name
    if data.name == name and not inside.is_dir():
        return data
    return inside


def _cache(name: str) -> Path:
    folder = os.environ.get("FNN_CACHE") or "~/.cache/fnn"
    return Path(folder).expanduser() / name


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


def _download(name: str, missing: list[str]) -> dict[str, Path]:
    """Downloads files into the cache. Raises one error that names all files that failed."""
    # Imported here, since they take time and are rarely needed.
    import http.client
    import urllib.request

    url, sums = _SOURCES[name]
    stored: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for file in missing:
        if file not in sums:
            failed[file] = "no SHA-256 is known for it, so it is not downloaded"
            continue
        try:
            with urllib.request.urlopen(f"{url}{file}.gz", timeout=60) as response:
                data = response.read()
        except (OSError, http.client.HTTPException) as error:  # OSError: URLError too
            failed[file] = f"{url}{file}.gz: {error}"
            continue
        path = _cache(name) / f"{file}.gz"
        stored[file] = _store(path, data, sums[file])
    if failed:
        lines = [f"  {file}.gz ({reason})" for file, reason in failed.items()]
        reasons = "\n".join(lines)
        raise FileNotFoundError(
            f"expected the files of {name}, but these are missing:\n{reasons}\nput them into "
            f"{_cache(name)}, or set FNN_DATA to a folder and put them into {name}/ inside it"
        )
    return stored


def _store(path: Path, data: bytes, expected: str) -> Path:
    received = hashlib.sha256(data).hexdigest()
    if received != expected:
        raise ValueError(
            f"{path.name}: expected a download with SHA-256 {expected}, received {received} in "
            f"{len(data)} bytes; it was not kept, try again or put a good file into {path.parent}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(data))
    return path
