"""Every metric of Keras with arguments, targets and predictions."""

import functools

import jax
import numpy as np

random = np.random.default_rng(0)


def normal(*shape):
    return random.normal(size=shape).astype("float32")


def probabilities(*shape):
    return np.asarray(jax.nn.softmax(normal(*shape)))


def uniform(*shape):
    return random.uniform(size=shape).astype("float32")


def one_hot(*shape):
    return np.eye(shape[-1], dtype="float32")[random.integers(0, shape[-1], shape[:-1])]


def labels(high, *shape):
    return random.integers(0, high, shape).astype("int32")


def yes_no(*shape):
    return random.integers(0, 2, shape).astype("float32")


NUMBERS = (normal(9, 3), normal(9, 3))
COLUMN = (normal(9, 1), normal(9, 1))
YES_NO = (yes_no(9, 1), uniform(9, 1))
MANY = (yes_no(9, 3), uniform(9, 3))
CLASSES = (one_hot(9, 4), probabilities(9, 4))
NUMBERED = (labels(4, 9), probabilities(9, 4))
STEPS = (labels(4, 9, 5), probabilities(9, 5, 4))
TIED = (labels(4, 9), np.round(4 * probabilities(9, 4)).astype("float32"))
IDS = (labels(3, 9), labels(3, 9))
IMAGES = (labels(3, 9, 4), labels(3, 9, 4))

# (class, arguments, targets, predictions): each equals Keras over batches, plain and weighted
TABLE = [
    ("Accuracy", {}, *IDS),
    ("BinaryAccuracy", {}, *YES_NO),
    ("BinaryAccuracy", {"threshold": 0.3}, *MANY),
    ("CategoricalAccuracy", {}, *CLASSES),
    ("CategoricalAccuracy", {}, one_hot(9, 5, 4), probabilities(9, 5, 4)),
    ("SparseCategoricalAccuracy", {}, *NUMBERED),
    ("SparseCategoricalAccuracy", {}, NUMBERED[0][:, None], NUMBERED[1]),
    ("SparseCategoricalAccuracy", {}, *STEPS),
    ("TopKCategoricalAccuracy", {"k": 2}, *CLASSES),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, *NUMBERED),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, *TIED),
    (
        "SparseTopKCategoricalAccuracy",
        {"k": 2, "from_sorted_ids": True},
        labels(4, 9),
        np.argsort(-probabilities(9, 4), axis=-1).astype("int32"),
    ),
    ("MeanSquaredError", {}, *NUMBERS),
    ("MeanAbsoluteError", {}, *NUMBERS),
    ("MeanAbsolutePercentageError", {}, *NUMBERS),
    ("MeanSquaredLogarithmicError", {}, *NUMBERS),
    ("RootMeanSquaredError", {}, *NUMBERS),
    ("LogCoshError", {}, *NUMBERS),
    ("CosineSimilarity", {}, *NUMBERS),
    ("Poisson", {}, *MANY),
    ("KLDivergence", {}, probabilities(9, 4), probabilities(9, 4)),
    ("Hinge", {}, 2 * yes_no(9, 3) - 1, normal(9, 3)),
    ("SquaredHinge", {}, 2 * yes_no(9, 3) - 1, normal(9, 3)),
    ("CategoricalHinge", {}, one_hot(9, 4), normal(9, 4)),
    ("BinaryCrossentropy", {}, *YES_NO),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, yes_no(9, 3), NUMBERS[0]),
    ("CategoricalCrossentropy", {}, *CLASSES),
    ("CategoricalCrossentropy", {"from_logits": True}, CLASSES[0], normal(9, 4)),
    ("SparseCategoricalCrossentropy", {}, *NUMBERED),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, *STEPS),
    ("PearsonCorrelation", {}, *NUMBERS),
    ("ConcordanceCorrelation", {}, *NUMBERS),
    ("R2Score", {}, *NUMBERS),
    ("R2Score", {"class_aggregation": None}, *NUMBERS),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}, *NUMBERS),
    ("R2Score", {"num_regressors": 3}, *COLUMN),
    ("TruePositives", {}, *MANY),
    ("FalsePositives", {"thresholds": 0.3}, *YES_NO),
    ("TrueNegatives", {"thresholds": [0.7, 0.2]}, *MANY),
    ("FalseNegatives", {"thresholds": [0.0, 0.5, 1.0]}, *MANY),
    ("Precision", {}, *YES_NO),
    ("Precision", {"thresholds": [0.8, 0.4]}, *YES_NO),
    ("Precision", {"top_k": 2}, *CLASSES),
    ("Precision", {"class_id": 1}, *MANY),
    ("Precision", {"top_k": 2, "class_id": 0}, *CLASSES),
    ("Recall", {}, *YES_NO),
    ("Recall", {"top_k": 1}, *CLASSES),
    ("Recall", {"class_id": 2, "thresholds": 0.3}, *MANY),
    ("SensitivityAtSpecificity", {"specificity": 0.6}, *YES_NO),
    ("SpecificityAtSensitivity", {"sensitivity": 0.6, "num_thresholds": 20}, *YES_NO),
    ("PrecisionAtRecall", {"recall": 0.5, "num_thresholds": 1}, *YES_NO),
    ("RecallAtPrecision", {"precision": 0.6, "class_id": 1}, *MANY),
    ("AUC", {}, *YES_NO),
    ("AUC", {}, *MANY),
    ("AUC", {"from_logits": True, "num_thresholds": 30}, yes_no(9, 1), normal(9, 1)),
    ("AUC", {"curve": "PR"}, *YES_NO),
    ("AUC", {"curve": "PR", "summation_method": "majoring"}, *YES_NO),
    ("AUC", {"summation_method": "minoring"}, *YES_NO),
    ("AUC", {"curve": "PRGAIN"}, *YES_NO),
    ("AUC", {"thresholds": [0.7, 0.1, 0.4]}, *YES_NO),
    ("AUC", {"multi_label": True, "num_labels": 3}, *MANY),
    ("AUC", {"multi_label": True, "label_weights": [1.0, 2.0, 0.5]}, *MANY),
    ("AUC", {"multi_label": True, "curve": "PR", "num_labels": 3}, *MANY),
    ("AUC", {"label_weights": [1.0, 2.0, 0.5]}, *MANY),
    ("F1Score", {}, *CLASSES),
    ("F1Score", {"average": "weighted"}, *CLASSES),
    ("FBetaScore", {"beta": 2.0, "threshold": 0.4, "average": "macro"}, *MANY),
    ("FBetaScore", {"beta": 0.5, "average": "micro"}, *MANY),
    ("IoU", {"num_classes": 3, "target_class_ids": [0, 2]}, *IDS),
    ("IoU", {"num_classes": 3, "target_class_ids": [1], "ignore_class": 0}, *IMAGES),
    ("MeanIoU", {"num_classes": 3}, *IMAGES),
    ("MeanIoU", {"num_classes": 4}, *IDS),
    ("MeanIoU", {"num_classes": 4, "sparse_y_pred": False}, *NUMBERED),
    ("OneHotIoU", {"num_classes": 4, "target_class_ids": [0, 1]}, *CLASSES),
    ("OneHotMeanIoU", {"num_classes": 4}, *CLASSES),
    ("BinaryIoU", {"threshold": 0.3}, *YES_NO),
    ("BinaryIoU", {"target_class_ids": [1]}, *MANY),
]
NAMES = [f"{name}-{arguments}" for name, arguments, *_ in TABLE]
ONE_EACH = [row for i, row in enumerate(TABLE) if row[0] not in {r[0] for r in TABLE[:i]}]


@functools.cache
def compiled(metric):
    return jax.jit(metric.update)


@functools.cache
def _compiled_result(metric):
    return jax.jit(metric.result)


def result(metric, sums):
    """`metric.result(sums)` as one program: operation by operation it would be one for each."""
    return _compiled_result(metric)(sums)
