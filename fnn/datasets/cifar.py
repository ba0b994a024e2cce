"""CIFAR: small color images in 10 and in 100 classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fnn.datasets.finding import Remote, folder_of
from fnn.datasets.named import Pair, Split, as_in_keras
from fnn.datasets.stored import StoredObject
from fnn.runtime.settings import settings

URL = "https://www.cs.toronto.edu/~kriz/"
CIFAR10 = Remote(
    "cifar-10-python.tar.gz",
    f"{URL}cifar-10-python.tar.gz",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)
CIFAR100 = Remote(
    "cifar-100-python.tar.gz",
    f"{URL}cifar-100-python.tar.gz",
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
)


@as_in_keras
def cifar10() -> Split:
    """Color images in ten classes: `(x_train, y_train), (x_test, y_test)`.

    x `(50000, 32, 32, 3)` and `(10000, 32, 32, 3)` uint8 from 0 to 255 (channels first if
    `fnn.config` says so), y `(n, 1)` uint8. Classes 0 to 9: airplane, automobile, bird, cat, deer,
    dog, frog, horse, ship, truck. The folder `cifar-10-batches-py` is read from
    `$FNN_DATA/cifar10`, else from Keras's cache, else from the archive in the cache, which is
    downloaded into it; nothing in the files is executed.
    Raises FileNotFoundError that says where to put it, ValueError for a damaged file.
    Source: Krizhevsky, Learning multiple layers of features from tiny images (2009).

    >>> (x_train, y_train), (x_test, y_test) = fnn.datasets.cifar10()
    >>> x_train.shape[1:], y_train.shape[1:]
    ((32, 32, 3), (1,))
    """
    name = "cifar-10-batches-py"
    folder = folder_of("cifar10", CIFAR10, name, (f"{name}-target", ""))
    parts = [_batch(folder / f"data_batch_{n}", "labels") for n in range(1, 6)]
    x = np.concatenate([x for x, _ in parts])
    y = np.concatenate([y for _, y in parts])
    x_test, y_test = _batch(folder / "test_batch", "labels")
    return (x, y.astype("uint8")), (x_test, y_test.astype("uint8"))


@as_in_keras
def cifar100(label_mode: str = "fine") -> Split:
    """Color images in 100 classes ("fine") or 20 groups of them ("coarse"), else as `cifar10`.

    y `(n, 1)` int64, as Keras returns it. Raises ValueError for another `label_mode`.

    >>> (x_train, y_train), (x_test, y_test) = fnn.datasets.cifar100("coarse")
    >>> x_train.shape[1:], y_train.shape[1:]
    ((32, 32, 3), (1,))
    """
    if label_mode not in ("fine", "coarse"):
        raise ValueError(
            f'cifar100: expected label_mode as "fine" or "coarse", received {label_mode!r}'
        )
    name = "cifar-100-python"
    folder = folder_of("cifar100", CIFAR100, name, (f"{name}-target", ""))
    labels = f"{label_mode}_labels"
    return _batch(folder / "train", labels), _batch(folder / "test", labels)


def _batch(path: Path, labels: str) -> Pair:
    """(images, labels of shape (n, 1)) of a file. Raises ValueError that names it."""
    try:
        found = StoredObject(path.read_bytes()).load()
        x = np.asarray(found[b"data"], "uint8").reshape(-1, 3, 32, 32)
        y = np.array(found[labels.encode()]).reshape(len(x), 1)
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{path}: expected images and labels of CIFAR: {error}; the file is damaged, get it "
            "again"
        ) from error
    if settings.image_data_format == "channels_last":
        x = x.transpose(0, 2, 3, 1)
    return x, y
