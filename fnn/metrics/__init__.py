"""Metrics by their Keras names, and `get`, which resolves them."""

from __future__ import annotations

from fnn.core.config import serializers
from fnn.core.named import function_name, of_kind
from fnn.core.registry import is_from_optax, lookup, names_of, register, snake_case
from fnn.core.value import resolve
from fnn.losses import (
    KLD,
    MAE,
    MAPE,
    MSE,
    MSLE,
    OptaxLoss,
    bce,
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    hinge,
    huber,
    kl_divergence,
    kld,
    kullback_leibler_divergence,
    log_cosh,
    logcosh,
    mae,
    mape,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    mse,
    msle,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from fnn.losses.targets import HasShape
from fnn.metrics import subclassed  # noqa: F401 - sets a hook
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
    "KLD",
    "MAE",
    "MAPE",
    "MSE",
    "MSLE",
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
    "bce",
    "binary_accuracy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "concordance_correlation",
    "deserialize",
    "get",
    "hinge",
    "huber",
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
    "pearson_correlation",
    "poisson",
    "serialize",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
    "squared_hinge",
    "top_k_categorical_accuracy",
]

# Names whose meaning depends on the shapes of targets and predictions.
BY_SHAPE = {
    "accuracy": ("BinaryAccuracy", "SparseCategoricalAccuracy", "CategoricalAccuracy"),
    "crossentropy": (
        "BinaryCrossentropy",
        "SparseCategoricalCrossentropy",
        "CategoricalCrossentropy",
    ),
}
BY_SHAPE["acc"] = BY_SHAPE["accuracy"]
BY_SHAPE["ce"] = BY_SHAPE["crossentropy"]

_SHORT = {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
    "bce": BinaryCrossentropy,
    "kld": KLDivergence,
    "logcosh": LogCoshError,
}

# Keras accepts the class name and snake case.
for _name in names_of("metric"):
    register(lookup("metric", _name), snake_case(_name))
for _name, _class in _SHORT.items():
    register(_class, _name, _name.upper())
register(Accuracy, "acc")


serialize, deserialize = serializers(
    "metric", __name__, "BinaryAccuracy(threshold=0.7)"
)


def get(
    identifier: object,
    y_true_spec: HasShape | None = None,
    y_pred_spec: HasShape | None = None,
) -> Metric:
    """The metric for a name, a class, a metric, a function `(y_true, y_pred)` or a loss.

    "accuracy" and "acc" (and "crossentropy", "ce") need the shapes of targets and predictions: they
    are binary for predictions of one output, sparse for targets that are class numbers, otherwise
    categorical. A metric given by a string is named by it; a user's function gives its own name.
    A function of `optax.losses` is called with the predictions first. Raises ValueError for an
    unknown name, TypeError for anything else.

    >>> get("mse").name, get(fnn.losses.mse).name
    ('mse', 'mean_squared_error')
    """
    if isinstance(identifier, str):
        name = identifier
        if identifier.lower() in BY_SHAPE:
            name = _by_shape(identifier, y_true_spec, y_pred_spec)
        metric: Metric = resolve("metric", name)
        return metric.replace(name=identifier)
    found = of_kind("metric", resolve("metric", identifier), "loss")
    if isinstance(found, Metric):
        return found
    if is_from_optax(found):
        found = OptaxLoss(found)
    if getattr(found, "kind", None) == "loss":
        return LossMetric(found)
    return MeanMetricWrapper(found, name=function_name(found))


def _by_shape(
    name: str,
    y_true: HasShape | None,
    y_pred: HasShape | None,
) -> str:
    if y_true is None or y_pred is None:
        raise ValueError(
            f"the metric {name!r} depends on the shapes of targets and predictions, which "
            "are not known here; use the full name, e.g. binary_accuracy, "
            "categorical_accuracy or sparse_categorical_accuracy"
        )
    binary, sparse, categorical = BY_SHAPE[name.lower()]
    true = tuple(y_true.shape)
    predicted = tuple(y_pred.shape)
    if predicted[-1] == 1:
        return binary
    one_label = len(true) < len(predicted) or true[-1] == 1
    if one_label:
        return sparse
    return categorical
