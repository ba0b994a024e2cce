"""Regressor: a model of numbers as an estimator of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from fnn.runtime.optional import optional
from fnn.wrappers.estimator import Estimator

with optional("scikit-learn", extra="sklearn"):
    from sklearn.base import RegressorMixin
    from sklearn.utils.validation import column_or_1d


class Targets(Estimator):
    """An estimator whose targets are arrays of numbers."""

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        """Targets of at least two axes, like the outputs of a last layer Dense."""
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._target_ndim = y.ndim
        if y.ndim == 1:
            y = y[:, None]
        return y.astype("float32")


class Regressor(RegressorMixin, Targets):
    """A regressor for scikit-learn: predictions have the shape of the targets.

    `model` is a compiled model, or a function that returns one:
    `model(X=X, y=y, **model_kwargs)`, with y of shape (examples, targets). A model that is passed
    is cloned by each `fit`; `warm_start=True` goes on with the last one. `fit_kwargs` are
    arguments of `model.fit`. Unlike Keras's it takes several targets an example too. After `fit`:
    `model_` and `history_`.

    >>> def network(X, y):
    ...     model = fnn.Sequential([fnn.layers.Dense(y.shape[1], input_shape=X.shape[1:])], seed=0)
    ...     model.compile(fnn.optimizers.SGD(0.1), "mse")
    ...     return model
    >>> X = np.linspace(-1, 1, 64)[:, None]
    >>> regressor = Regressor(network, fit_kwargs={"epochs": 60, "verbose": 0})
    >>> bool(regressor.fit(X, 3 * X[:, 0] + 1).score(X, 3 * X[:, 0] + 1) > 0.999)
    True
    """

    def predict(self, X: Any) -> np.ndarray:
        """The outputs for each example; of one target, with one axis. float64, as scores need."""
        outputs: np.ndarray = self._outputs(X).astype("float64")
        if self._target_ndim == 1 and outputs.ndim == 2 and outputs.shape[1] == 1:
            return outputs[:, 0]
        return outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # of a model that may be any
        return tags
