"""Classifier: a model of classes as an estimator of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from fnn.runtime.optional import optional
from fnn.wrappers.estimator import Estimator

with optional("scikit-learn", extra="sklearn"):
    from sklearn.base import ClassifierMixin
    from sklearn.utils.multiclass import check_classification_targets


class Classifier(ClassifierMixin, Estimator):
    """A classifier for scikit-learn: `model` has one output for each class, also for two classes.

    `model` is a compiled model, or a function that returns one:
    `model(X=X, y=y, **model_kwargs)`, with y one-hot of shape (examples, classes). Its loss takes
    one-hot targets (`"categorical_crossentropy"`), so labels may be strings or any integers. A
    model that is passed is cloned by each `fit`; `warm_start=True` goes on with the last one.
    `fit_kwargs` are arguments of `model.fit`.

    After `fit`: `classes_`, `model_` and `history_`. Raises ValueError for targets of one class,
    numbers that are no classes, and several labels an example.

    >>> def network(X, y, units=8):
    ...     layers = [fnn.layers.Dense(units, "relu", input_shape=X.shape[1:])]
    ...     layers += [fnn.layers.Dense(y.shape[1], "softmax")]
    ...     model = fnn.Sequential(layers, seed=0)
    ...     model.compile("adam", "categorical_crossentropy")
    ...     return model
    >>> X, y = np.array([[0.0, 1.0], [1.0, 0.0]] * 16), np.array(["a", "b"] * 16)
    >>> classifier = Classifier(network, fit_kwargs={"epochs": 60, "verbose": 0})
    >>> classifier.fit(X, y).predict(X[:3])
    array(['a', 'b', 'a'], dtype='<U1')
    """

    classes_: Any  # an array of labels

    multi_output = False

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        check_classification_targets(y)
        if self.warm_start and hasattr(self, "model_"):
            codes = self._known(y)
        else:
            self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) == 1:
            raise ValueError(
                f"expected labels of at least two classes, received one class, {y[0]!r}; pass "
                "examples of another class too"
            )
        one_hot: np.ndarray = np.eye(len(self.classes_), dtype="float32")[codes]
        return one_hot

    def _known(self, y: np.ndarray) -> np.ndarray:
        """The numbers of labels among the classes of the `fit` before."""
        unknown = np.setdiff1d(y, self.classes_).tolist()
        if unknown:
            raise ValueError(
                f"expected labels among {self.classes_.tolist()} with warm_start=True, received "
                f"{unknown} too; use warm_start=False for other classes"
            )
        codes: np.ndarray = np.searchsorted(self.classes_, y)
        return codes

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest output, for each example."""
        outputs = self._outputs(X)
        labels: np.ndarray = self.classes_[np.argmax(outputs, axis=-1)]
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (examples, classes), in the order of `classes_`.

        The softmax of the outputs for a loss with `from_logits=True`, else the outputs, divided
        by their sum (which is 1 after a softmax).
        """
        outputs: np.ndarray = self._outputs(X).astype("float64")
        loss = self.model_._program.require("predict_proba")["loss"]
        if getattr(loss, "from_logits", False):
            largest = outputs.max(axis=-1, keepdims=True)
            outputs = np.exp(outputs - largest)
        probabilities: np.ndarray = outputs / outputs.sum(axis=-1, keepdims=True)
        return probabilities

    def decision_function(self, X: Any) -> np.ndarray:
        """The outputs of the model; for two classes, by scikit-learn's rule, their difference.

        Keras returns both outputs there, which scikit-learn's scores (`roc_auc`) do not take.
        """
        outputs: np.ndarray = self._outputs(X)
        if len(self.classes_) == 2:
            outputs = outputs[:, 1] - outputs[:, 0]
        return outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # of a model that may be any
        return tags
