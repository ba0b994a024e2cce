"""Estimator: a model that scikit-learn makes, trains, copies and asks for its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from fnn.models import Model, clone_model
from fnn.runtime.optional import optional
from fnn.training.history import History

with optional("scikit-learn", extra="sklearn"):
    from sklearn.base import BaseEstimator
    from sklearn.utils.validation import check_is_fitted, validate_data

# The arguments that are dicts, whose items have names of their own: `fit_kwargs__epochs`.
DICTS = ("model_kwargs", "fit_kwargs")
# Inputs beyond scikit-learn's defaults: sparse matrices, and images with more than two axes.
ACCEPTED: dict[str, Any] = {"accept_sparse": "csr", "allow_nd": True}


class Estimator(BaseEstimator):
    """What classifier, regressor and transformer share: `model` is a compiled model or a function.

    A function is called as `model(X=X, y=y, **model_kwargs)` by each `fit` and returns a compiled
    model. A model is cloned by each `fit`, so that training starts anew. With `warm_start` the
    training of the last `fit` goes on, and a given model is itself trained. `fit_kwargs` are
    arguments of `model.fit`; those that are passed to `fit` win.

    `get_params` and `set_params` know the items of both dicts, as `model_kwargs__units`: a grid
    search varies them. After `fit` the model is in `model_`, its history in `history_`.
    """

    multi_output = True  # whether targets may have several columns
    model_: Any
    history_: History
    # For metadata routing: `set_fit_request(sample_weight=True)`.
    __metadata_request__fit = {"sample_weight": None}

    def __init__(
        self,
        model: Any,
        warm_start: bool = False,
        model_kwargs: Mapping[str, Any] | None = None,
        fit_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        # Kept as they are: scikit-learn compares them with those of a copy.
        self.model = model
        self.warm_start = warm_start
        self.model_kwargs = model_kwargs
        self.fit_kwargs = fit_kwargs

    def fit(self, X: Any, y: Any, **kwargs: Any) -> Self:
        """Trains a model; `kwargs` are arguments of `model.fit`, such as `sample_weight`.

        X is (examples, features), or has more axes (images), y has one row an example. Raises
        ValueError for data that no estimator takes (NaN, no examples), RuntimeError for a model
        that is not compiled.
        """
        X, y = validate_data(self, X, y, **ACCEPTED, multi_output=self.multi_output)
        targets = self._encoded(y)
        model = self._model_for(X, targets)
        arguments = {**(self.fit_kwargs or {}), **kwargs}
        self.history_ = model.fit(X, targets, **arguments)
        self.model_ = model
        return self

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        """The targets that the model is trained on."""
        raise NotImplementedError(
            f"{type(self).__name__} does not know what its targets are; use Classifier, Regressor "
            "or Transformer"
        )

    def _model_for(self, X: Any, y: np.ndarray) -> Any:
        """The model to train."""
        if self.warm_start and hasattr(self, "model_"):
            return self.model_
        if not isinstance(self.model, Model):
            kwargs = self.model_kwargs or {}
            return self.model(X=X, y=y, **kwargs)
        if self.warm_start:
            return self.model
        clone = clone_model(self.model)
        clone.compile(**self.model._program.require("fit"))
        return clone

    def _outputs(self, X: Any) -> Any:
        """What the model predicts. Raises NotFittedError before `fit`."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, **ACCEPTED)
        model = getattr(self, "model_", self.model)
        return model.predict(X, verbose=0)

    # -- what scikit-learn asks --------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments by name; with `deep` also the items of dicts, as `fit_kwargs__epochs`."""
        params: dict[str, Any] = super().get_params(deep=deep)
        if not deep:
            return params
        for name in DICTS:
            if isinstance(params[name], Mapping):
                items = params[name].items()
                params |= {f"{name}__{key}": value for key, value in items}
        return params

    def set_params(self, **params: Any) -> Self:
        """Replaces arguments; `fit_kwargs__epochs=3` one item of a dict, which may be a new one."""
        whole = {name: value for name, value in params.items() if "__" not in name}
        super().set_params(**whole)
        for name, value in params.items():
            owner, _, key = name.partition("__")
            if name in whole:
                continue
            if owner not in DICTS:
                super().set_params(**{name: value})  # which refuses it
            # A new dict: the one that was passed is the user's.
            given = getattr(self, owner) or {}
            setattr(self, owner, {**given, key: value})
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True  # unless the model has a seed
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = self.multi_output
        return tags
