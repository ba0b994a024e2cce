"""Losses by their Keras names: classes, functions, and `get`, which resolves either."""

from __future__ import annotations

from fnn.core.config import serializers
from fnn.core.named import of_kind
from fnn.core.registry import is_from_optax, register
from fnn.core.value import resolve
from fnn.losses import crossentropy as _crossentropy
from fnn.losses import embeddings as _embeddings
from fnn.losses import focal as _focal
from fnn.losses import overlap as _overlap
from fnn.losses import regression as _regression
from fnn.losses import scores as _scores
from fnn.losses import sequences as _sequences
from fnn.losses.crossentropy import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    categorical_crossentropy,
    sparse_categorical_crossentropy,
)
from fnn.losses.embeddings import (
    Circle,
    InfoNCE,
    Triplet,
    circle,
    info_nce,
    triplet,
)
from fnn.losses.focal import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    binary_focal_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
)
from fnn.losses.from_optax import OptaxLoss
from fnn.losses.loss import FunctionLoss, Functions, Loss
from fnn.losses.overlap import Dice, Tversky, dice, tversky
from fnn.losses.regression import (
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    huber,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
)
from fnn.losses.scores import (
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    SquaredHinge,
    categorical_hinge,
    cosine_similarity,
    hinge,
    kl_divergence,
    squared_hinge,
)
from fnn.losses.sequences import CTC, ctc
from fnn.losses.targets import HasShape

__all__ = [
    "CTC",
    "KLD",
    "MAE",
    "MAPE",
    "MSE",
    "MSLE",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "Circle",
    "CosineSimilarity",
    "Dice",
    "FunctionLoss",
    "Hinge",
    "Huber",
    "InfoNCE",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "OptaxLoss",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Triplet",
    "Tversky",
    "bce",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
    "circle",
    "cosine_similarity",
    "ctc",
    "deserialize",
    "dice",
    "get",
    "hinge",
    "huber",
    "info_nce",
    "kl_divergence",
    "kld",
    "kullback_leibler_divergence",
    "log_cosh",
    "logcosh",
    "mae",
    "mape",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "mse",
    "msle",
    "poisson",
    "serialize",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "triplet",
    "tversky",
]

mse = mean_squared_error
mae = mean_absolute_error
mape = mean_absolute_percentage_error
msle = mean_squared_logarithmic_error
bce = binary_crossentropy
kld = kl_divergence
MSE, MAE, MAPE, MSLE, KLD = mse, mae, mape, msle, kld
kullback_leibler_divergence = kl_divergence
logcosh = log_cosh

_CLASSES: Functions = {}
for _module in (
    _crossentropy,
    _embeddings,
    _focal,
    _overlap,
    _regression,
    _scores,
    _sequences,
):
    _CLASSES |= _module.FUNCTIONS
_SHORT = {
    "mse": mse,
    "mae": mae,
    "mape": mape,
    "msle": msle,
    "bce": bce,
    "kld": kld,
}

# Names whose meaning depends on the shapes of targets and predictions.
BY_SHAPE = ("crossentropy", "ce")

for _function, _class in _CLASSES.items():
    register(_class, _function.__name__)
for _name, _function in _SHORT.items():
    register(_CLASSES[_function], _name, _name.upper())


serialize, deserialize = serializers("loss", __name__, "Huber(2.0)")


def get(
    identifier: object,
    y_true_spec: HasShape | None = None,
    y_pred_spec: HasShape | None = None,
) -> Loss | None:
    """The loss for a name, a class, a loss or a function `(y_true, y_pred)`; None for None.

    A function of `optax.losses` is called with the predictions first (`OptaxLoss`).
    "crossentropy" and "ce" need the shapes of targets and predictions: they are binary for
    predictions of one output, sparse for targets that are class numbers, otherwise categorical.
    Raises ValueError for an unknown name, TypeError for anything else (such as an optimizer).

    >>> get("mse"), get("huber").delta
    (MeanSquaredError(), 1.0)
    """
    if isinstance(identifier, str) and identifier.lower() in BY_SHAPE:
        return _crossentropy_by_shape(identifier, y_true_spec, y_pred_spec)
    found = of_kind("loss", resolve("loss", identifier))
    if found is None or isinstance(found, Loss):
        return found
    if found in _CLASSES:
        return _CLASSES[found]()
    if is_from_optax(found):
        return OptaxLoss(found)
    return FunctionLoss(found)


def _crossentropy_by_shape(
    name: str,
    y_true: HasShape | None,
    y_pred: HasShape | None,
) -> Loss:
    if y_true is None or y_pred is None:
        raise ValueError(
            f"the loss {name!r} depends on the shapes of targets and predictions, which "
            "are not known here; name binary_crossentropy, categorical_crossentropy or "
            "sparse_categorical_crossentropy"
        )
    true = tuple(y_true.shape)
    predicted = tuple(y_pred.shape)
    if predicted[-1] == 1:
        return BinaryCrossentropy()
    if len(true) < len(predicted) or true[-1] == 1:
        return SparseCategoricalCrossentropy()
    return CategoricalCrossentropy()
