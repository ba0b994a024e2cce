"""Datasets that scikit-learn contains: digits, tumors and diabetes; nothing is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np

from fnn.datasets.named import Split
from fnn.runtime.optional import optional


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
