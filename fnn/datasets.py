"""Datasets: small ones to learn and test with, as NumPy arrays."""

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

from fnn.runtime.files import write_whole
from fnn.runtime.optional import optional

Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
Split: TypeAlias = tuple[Pair, Pair]

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class _Source(NamedTuple):
    url: str
    sums: dict[str, str]  # SHA-256 of each file as it is served, compressed by gzip


# A file that has no sum here is never downloaded.
_SOURCES = {
    "mnist": _Source(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        {
            TRAIN[
                0
            ]: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            TRAIN[
                1
            ]: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            TEST[0]: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            TEST[1]: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    "fashion_mnist": _Source(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
        "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/",
        {
            TRAIN[
                0
            ]: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            TRAIN[
                1
            ]: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            TEST[0]: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            TEST[1]: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
}


class _Dataset(Protocol):
    load_data: Callable[[], Split]

    def __call__(self) -> Split: ...


def _as_in_keras(load: Any) -> _Dataset:
    """`mnist()` is `mnist.load_data()` too: a module in Keras, here a function."""
    load.load_data = load
    return load


@_as_in_keras
def mnist() -> Split:
    """Handwritten digits: `(x_train, y_train), (x_test, y_test)`. `mnist.load_data()` is the same.

    x `(60000, 28, 28)` and `(10000, 28, 28)` uint8 from 0 (background) to 255, y the digit, uint8.
    The files are looked for under `$FNN_DATA/mnist` (or `$FNN_DATA`, if it ends so), then in the
    cache (`$FNN_CACHE/mnist`, else `~/.cache/fnn/mnist`), else downloaded into the cache and
    checked against a known SHA-256.
    If `$FNN_DATA/mnist` holds the `t10k` files alone, their first 8,000 images are to train on and
    their last 2,000, which are the easier ones, to test.
    Raises FileNotFoundError naming each file that is missing and where to put it, ValueError for
    a damaged file. Source: LeCun, Cortes, Burges, The MNIST database of handwritten digits.

    >>> (x_train, y_train), (x_test, y_test) = fnn.datasets.mnist()
    >>> x_train.shape[1:], x_train.dtype.name  # bytes: divide by 255 before training
    ((28, 28), 'uint8')
    """
    return _load("mnist")


@_as_in_keras
def fashion_mnist() -> Split:
    """Pictures of clothes in ten classes, in the form and by the rules of `mnist`.

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
    holds the data: nothing is downloaded. `test_split` is the share kept for testing.

    >>> (x_train, y_train), (x_test, y_test) = fnn.datasets.digits()
    >>> x_train.shape, x_test.shape
    ((1438, 8, 8), (359, 8, 8))
    """
    bunch = _scikit_learn().load_digits()
    return _split(
        bunch.images.astype("float32"), bunch.target.astype("int32"), test_split, seed
    )


def breast_cancer(test_split: float = 0.2, seed: int = 0) -> Split:
    """569 tumours by 30 measurements: `(x_train, y_train), (x_test, y_test)`.

    x `(n, 30)` float32, not scaled; y int32, 0 malignant and 1 benign. Needs scikit-learn.

    >>> (x_train, y_train), _ = fnn.datasets.breast_cancer()
    >>> x_train.shape
    (455, 30)
    """
    bunch = _scikit_learn().load_breast_cancer()
    return _split(
        bunch.data.astype("float32"), bunch.target.astype("int32"), test_split, seed
    )


def diabetes(test_split: float = 0.2, seed: int = 0) -> Split:
    """442 patients by 10 measurements: `(x_train, y_train), (x_test, y_test)`, a regression.

    x `(n, 10)` float32, each column centred and of length 1; y float32, how far the disease went
    in a year, 25 to 346. Needs scikit-learn.

    >>> (x_train, y_train), _ = fnn.datasets.diabetes()
    >>> x_train.shape
    (354, 10)
    """
    bunch = _scikit_learn().load_diabetes()
    return _split(
        bunch.data.astype("float32"), bunch.target.astype("float32"), test_split, seed
    )


def _scikit_learn() -> Any:
    with optional("scikit-learn", extra="datasets"):
        from sklearn import datasets

    return datasets


def _split(x: np.ndarray, y: np.ndarray, test_split: float, seed: int) -> Split:
    if not 0 < test_split < 1:
        raise ValueError(
            f"expected test_split to be a share between 0 and 1, received {test_split=}; "
            "e.g. test_split=0.2"
        )
    order = np.random.default_rng(seed).permutation(len(x))
    cut = len(x) - round(len(x) * test_split)
    train, test = order[:cut], order[cut:]
    return (x[train], y[train]), (x[test], y[test])


def _load(name: str) -> Split:
    given = os.environ.get("FNN_DATA")
    found = _found(_folder(Path(given).expanduser().absolute(), name)) if given else {}
    if found.keys() == set(TEST):
        x, y = _pair(found, TEST)
        cut = len(x) * 4 // 5
        return (x[:cut], y[:cut]), (x[cut:], y[cut:])
    found = _found(_cache(name)) | found
    found |= _download(name, [file for file in TRAIN + TEST if file not in found])
    return _pair(found, TRAIN), _pair(found, TEST)


def _folder(data: Path, name: str) -> Path:
    """Where the files of a dataset are under `data`, which may be that folder, by its name, too.

    By its name only, since the files of one dataset are named like those of another.
    """
    inside = data / name
    return data if data.name == name and not inside.is_dir() else inside


def _cache(name: str) -> Path:
    return Path(os.environ.get("FNN_CACHE") or "~/.cache/fnn").expanduser() / name


def _found(folder: Path) -> dict[str, Path]:
    places = {
        folder / (file + end): file for file in TRAIN + TEST for end in ("", ".gz")
    }
    return {file: path for path, file in places.items() if path.is_file()}


def _pair(found: dict[str, Path], names: tuple[str, str]) -> Pair:
    images, labels = (found[name] for name in names)
    x, y = read_idx(images, axes=3), read_idx(labels, axes=1)
    if len(x) != len(y):
        raise ValueError(
            f"expected one label for each image, received {len(x)} images in {images} and "
            f"{len(y)} labels in {labels}; get both files anew"
        )
    return x, y


def read_idx(path: str | Path, axes: int) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, compressed by gzip or not.

    The file is two zero bytes, the type (8: unsigned byte), the number of axes, the size of each
    axis as a big-endian 32-bit number, then the numbers themselves.
    Raises ValueError naming the file unless it is whole and has that many axes.

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
            raise ValueError(_damaged(path, "a whole gzip file", str(error))) from error
    if data[:4] != bytes((0, 0, 8, axes)):
        expected = f"an IDX file of unsigned bytes with {axes} axes (it starts {0x800 + axes:08x})"
        raise ValueError(
            _damaged(path, expected, f"a start of {data[:4].hex() or 'nothing'}")
        )
    start = 4 + 4 * axes
    if len(data) < start:
        raise ValueError(
            _damaged(path, f"a header of {start} bytes", f"{len(data)} bytes")
        )
    shape = struct.unpack(f">{axes}I", data[4:start])
    if len(data) - start != math.prod(shape):
        expected = f"{math.prod(shape)} bytes after the header, for {shape}"
        raise ValueError(_damaged(path, expected, f"{len(data) - start}"))
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()


def _damaged(path: Path, expected: str, received: str) -> str:
    return f"{path}: expected {expected}, received {received}; the file is damaged, get it anew"


def _download(name: str, missing: list[str]) -> dict[str, Path]:
    """Brings files into the cache; those that cannot be had are one error that names them all."""
    import http.client
    import urllib.request

    url, sums = _SOURCES[name]
    stored, failed = dict[str, Path](), dict[str, str]()
    for file in missing:
        if file not in sums:
            failed[file] = "no SHA-256 is known for it, so it is not downloaded"
            continue
        try:
            with urllib.request.urlopen(f"{url}{file}.gz", timeout=60) as response:
                data = response.read()
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            failed[file] = f"{url}{file}.gz: {error}"
            continue
        stored[file] = _store(_cache(name) / f"{file}.gz", data, sums[file])
    if failed:
        reasons = "\n".join(
            f"  {file}.gz ({reason})" for file, reason in failed.items()
        )
        raise FileNotFoundError(
            f"expected the files of {name}, received no\n{reasons}\ndo put them into "
            f"{_cache(name)}, or into {name}/ under a folder that FNN_DATA names"
        )
    return stored


def _store(path: Path, data: bytes, expected: str) -> Path:
    received = hashlib.sha256(data).hexdigest()
    if received != expected:
        raise ValueError(
            f"{path.name}: expected a download of SHA-256 {expected}, received {received} in "
            f"{len(data)} bytes; it was not kept, try again or put a good one into {path.parent}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(data))
    return path
