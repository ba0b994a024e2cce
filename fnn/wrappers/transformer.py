"""Transformer: a model whose outputs are features, as an estimator of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from fnn.models import Model
from fnn.runtime.optional import optional
from fnn.wrappers.regressor import Targets

with optional("scikit-learn", extra="sklearn"):
    from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin


class Transformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Targets):
    """A transformer for scikit-learn (not one of attention): `transform` gives the outputs.

    `model` is a compiled model, or a function that returns one:
    `model(X=X, y=y, **model_kwargs)`. A model that is passed is cloned by each `fit`;
    `warm_start=True` goes on with the last one. `fit_kwargs` are arguments of `model.fit`. A model
    that has weights transforms without `fit` too, as in a pipeline with `FrozenEstimator`.

    >>> embed = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))], seed=0)
    >>> Transformer(embed).transform(np.ones((5, 3))).shape
    (5, 2)
    """

    def transform(self, X: Any) -> np.ndarray:
        """The outputs of the model: (examples, features)."""
        outputs: np.ndarray = self._outputs(X)
        return outputs

    @property
    def _n_features_out(self) -> int:
        """The number of features, whose names `get_feature_names_out` makes."""
        return int(self.model_.output_shape[-1])

    def __sklearn_is_fitted__(self) -> bool:
        has_weights = isinstance(self.model, Model) and self.model.built
        return hasattr(self, "model_") or has_weights

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # that of the model
        return tags
