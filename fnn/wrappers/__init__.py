"""Wrappers: models as estimators of scikit-learn."""

from fnn.wrappers.classifier import Classifier
from fnn.wrappers.regressor import Regressor
from fnn.wrappers.transformer import Transformer

__all__ = [
    "Classifier",
    "Regressor",
    "SKLearnClassifier",
    "SKLearnRegressor",
    "SKLearnTransformer",
    "Transformer",
]

# Keras's names.
SKLearnClassifier = Classifier
SKLearnRegressor = Regressor
SKLearnTransformer = Transformer
