"""Metrics, by Keras's names, and `get`, which resolves them."""

from __future__ import annotations

from typing import Any

from fnn.core.calling import snake_case
from fnn.core.named import function_name, of_kind
from fnn.core.registry import is_from_optax, lookup, names_of, register
from fnn.core.value import resolve
from fnn.losses import OptaxLoss
from fnn.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from fnn.metrics.beyond_keras import (
    ExpectedCalibrationError,
    MultiLabelAccuracy,
    Perplexity,
)
from fnn.metrics.confusion import (
    FalseNegatives,
    FalsePositives,
    Precision,
    Recall,
    TrueNegatives,
    TruePositives,
)
from fnn.metrics.crossentropy import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    SparseCategoricalCrossentropy,
)
from fnn.metrics.curves import (
    AUC,
    PrecisionAtRecall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
)
from fnn.metrics.losses import (
    CategoricalHinge,
    CosineSimilarity,
    FunctionMetric,
    Hinge,
    LogCoshError,
    LossMetric,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanMetricWrapper,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SquaredHinge,
)
from fnn.metrics.metric import Mean, Metric, Sum
from fnn.metrics.overlap import (
    BinaryIoU,
    F1Score,
    FBetaScore,
    IoU,
    MeanIoU,
    OneHotIoU,
    OneHotMeanIoU,
)
from fnn.metrics.regression import (
    ConcordanceCorrelation,
    PearsonCorrelation,
    R2Score,
    RootMeanSquaredError,
    concordance_correlation,
    pearson_correlation,
)

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "BinaryIoU",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "ConcordanceCorrelation",
    "CosineSimilarity",
    "ExpectedCalibrationError",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "FunctionMetric",
    "Hinge",
    "IoU",
    "KLDivergence",
    "LogCoshError",
    "LossMetric",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanIoU",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "MultiLabelAccuracy",
    "OneHotIoU",
    "OneHotMeanIoU",
    "PearsonCorrelation",
    "Perplexity",
    "Poisson",
    "Precision",
    "PrecisionAtRecall",
    "R2Score",
    "Recall",
    "RecallAtPrecision",
    "RootMeanSquaredError",
    "SensitivityAtSpecificity",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SpecificityAtSensitivity",
    "SquaredHinge",
    "Sum",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "accuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "concordance_correlation",
    "get",
    "pearson_correlation",
    "sparse_categorical_accuracy",
    "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]

BY_SHAPE = {  # names whose meaning hangs on targets and predictions
    "accuracy": ("BinaryAccuracy", "SparseCategoricalAccuracy", "CategoricalAccuracy"),
    "crossentropy": (
        "BinaryCrossentropy",
        "SparseCategoricalCrossentropy",
        "CategoricalCrossentropy",
    ),
}
BY_SHAPE |= {"acc": BY_SHAPE["accuracy"], "ce": BY_SHAPE["crossentropy"]}

_SHORT = {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
    "bce": BinaryCrossentropy,
    "kld": KLDivergence,
    "logcosh": LogCoshError,
}

for _name in names_of("metric"):
    register(lookup("metric", _name), snake_case(_name))
for _name, _class in _SHORT.items():
    register(_class, _name, _name.upper())
register(Accuracy, "acc")


def get(identifier: Any, y_true_spec: Any = None, y_pred_spec: Any = None) -> Metric:
    """The metric behind a name, a class, a value, a function `(y_true, y_pred)` or a loss.

    "accuracy" and "acc" (and "crossentropy", "ce") are binary for predictions of one output, sparse
    for targets that are class numbers, else categorical, by the shapes of targets and predictions,
    which they need. A metric given by a string has that string as its name, one by a function of
    yours that of the function. A function of `optax.losses` is called as optax does it, predictions
    first. Raises ValueError for an unknown name, TypeError for what is none of these.

    >>> get("mse").name, get(fnn.losses.mse).name
    ('mse', 'mean_squared_error')
    """
    if isinstance(identifier, str):
        name = identifier
        if identifier.lower() in BY_SHAPE:
            name = _by_shape(identifier, y_true_spec, y_pred_spec)
        return resolve("metric", name).replace(name=identifier)
    found = of_kind("metric", resolve("metric", identifier), "loss")
    if isinstance(found, Metric):
        return found
    if is_from_optax(found):
        found = OptaxLoss(found)
    if getattr(found, "kind", None) == "loss":
        return LossMetric(found)
    return MeanMetricWrapper(found, name=function_name(found))


def _by_shape(name: str, y_true: Any, y_pred: Any) -> str:
    if y_true is None or y_pred is None:
        raise ValueError(
            f"expected the shapes of targets and predictions to resolve the metric {name!r}, "
            "received none; name it in full, e.g. binary_accuracy, categorical_accuracy or "
            "sparse_categorical_accuracy"
        )
    binary, sparse, categorical = BY_SHAPE[name.lower()]
    true, predicted = tuple(y_true.shape), tuple(y_pred.shape)
    if predicted[-1] == 1:
        return binary
    return sparse if len(true) < len(predicted) or true[-1] == 1 else categorical
