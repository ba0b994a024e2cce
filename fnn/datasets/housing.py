"""Housing: prices of houses in Boston and California, two regressions."""

from __future__ import annotations

import numpy as np

from fnn.datasets.finding import Remote, file_of
from fnn.datasets.named import Split, as_in_keras, keras_order, train_count

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
BOSTON = Remote(
    "boston_housing.npz",
    f"{URL}boston_housing.npz",
    "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5",
)
CALIFORNIA = Remote(
    "california_housing.npz",
    f"{URL}california_housing.npz",
    "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f",
)


@as_in_keras
def boston_housing(
    path: str = "boston_housing.npz", test_split: float = 0.2, seed: int = 113
) -> Split:
    """506 districts of Boston by 13 measurements: `(x_train, y_train), (x_test, y_test)`.

    x `(n, 13)`, y the median price in thousands of dollars, both float64, in Keras's order for the
    seed. One column was made from an assumption about race, so that the data serves to show how
    data goes wrong; `california_housing("small")` takes its place elsewhere. For where the file is
    read from see `imdb`. Raises ValueError for another `test_split`.

    >>> (x_train, y_train), _ = fnn.datasets.boston_housing()
    >>> x_train.shape[1:]
    (13,)
    """
    return _load("boston_housing", BOSTON, path, None, test_split, seed)


@as_in_keras
def california_housing(
    version: str = "large",
    path: str = "california_housing.npz",
    test_split: float = 0.2,
    seed: int = 113,
) -> Split:
    """20,640 districts of California by 8 measurements: `(x_train, y_train), (x_test, y_test)`.

    x `(n, 8)`, not scaled, y the median price in dollars, in Keras's order for the seed. `version`
    "small" takes the first 600. For where the file is read from see `imdb`. Raises ValueError for
    another `version` or `test_split`.

    >>> (x_train, y_train), _ = fnn.datasets.california_housing("small")
    >>> x_train.shape[1:]
    (8,)
    """
    if version not in ("small", "large"):
        raise ValueError(
            f'california_housing: expected version as "small" or "large", received {version!r}'
        )
    count = 600 if version == "small" else None
    return _load("california_housing", CALIFORNIA, path, count, test_split, seed)


def _load(
    name: str,
    remote: Remote,
    path: str,
    count: int | None,
    test_split: float,
    seed: int,
) -> Split:
    with np.load(file_of(name, remote, path), allow_pickle=False) as file:
        x, y = file["x"][:count], file["y"][:count]
    order = keras_order(len(x), seed)
    cut = train_count(len(x), test_split)
    train, test = order[:cut], order[cut:]
    return (x[train], y[train]), (x[test], y[test])
