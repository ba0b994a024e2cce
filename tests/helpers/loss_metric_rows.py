"""Every loss and metric of Keras with what it compares, and batches of that, drawn."""

import dataclasses
import inspect
import math
import zlib

import numpy as np

SEVERAL = ((4, 2, 3), (4, 3), (1, 3))  # where the last axis holds classes
FLAT = ((4, 3), (1, 3))  # where there is none of steps


# -- data ----------------------------------------------------------------------------------------


def numbers(rng, shape):
    return real(rng.normal(size=shape), rng.normal(size=shape))


def positive(rng, shape):
    return real(rng.integers(0, 4, shape), rng.uniform(0.1, 3, shape))


def chances(rng, shape):
    return real(rng.integers(0, 2, shape), rng.uniform(0.05, 0.95, shape))


def signs(rng, shape):
    return real(2 * rng.integers(0, 2, shape) - 1, rng.normal(size=shape))


def logits(rng, shape):
    return real(rng.integers(0, 2, shape), 3 * rng.normal(size=shape))


def shares(rng, shape):
    return real(*(rng.dirichlet(np.ones(shape[-1]), shape[:-1]) for _ in "ab"))


def one_hot(rng, shape):
    return real(np.eye(shape[-1])[numbered(rng, shape)[0]], shares(rng, shape)[1])


def numbered(rng, shape):
    return rng.integers(0, shape[-1], shape[:-1], "int32"), shares(rng, shape)[1]


def scored(rng, shape):
    return numbered(rng, shape)[0], *real(3 * rng.normal(size=shape))


def classes(rng, shape):
    """Class numbers on both sides, these as a network gives them, in floating point."""
    return numbered(rng, shape)[0], *real(numbered(rng, shape)[0])


def yes_no(rng, shape):
    return chances(rng, shape[:-1])


def spoken(rng, shape):
    """One or two sounds, 0 being none, in six steps of scores."""
    sounds = rng.integers([1, 0], shape[-1], (*shape[:-1], 2), "int32")
    return sounds, *real(rng.normal(size=(*shape[:-1], 6, shape[-1])))


def pairs(rng, shape):
    """Two labels, at least twice each, and vectors of length 1."""
    vectors = rng.normal(size=shape)
    labels = np.arange(len(vectors), dtype="int32") % 2
    return labels, *real(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def values(rng, shape):
    """No targets at all."""
    return None, *real(rng.normal(size=shape))


def real(*arrays):
    return tuple(np.asarray(a, "float32") for a in arrays)


@dataclasses.dataclass(frozen=True)
class Row:
    """A class by its name in Keras, what it compares, its arguments, and the shapes it takes."""

    name: str
    make: object
    arguments: dict = dataclasses.field(default_factory=dict)
    shapes: tuple = ((4, 2, 3), (4, 1), (1, 3))

    def __str__(self):
        return "-".join([self.name, *self.arguments])


@dataclasses.dataclass
class Batch:
    """Targets and predictions, ways to weigh them, which are real, and where to cut them."""

    y_true: np.ndarray | None
    y_pred: np.ndarray
    weights: list  # none, one for each row, and where there are steps one for each of these
    valid: np.ndarray
    cuts: list[int]

    def each(self, weight):
        """The weight of each entry: Keras would lay those of rows along the steps."""
        if weight is None:
            return None
        extra = (1,) * (self.valid.ndim - weight.ndim)
        return np.broadcast_to(weight.reshape(weight.shape + extra), self.valid.shape)

    def spoiled(self, kept):
        """Predictions that are NaN but where they are kept."""
        kept = kept.reshape(kept.shape + (1,) * (self.y_pred.ndim - kept.ndim))
        return np.where(kept, self.y_pred, np.float32(np.nan))

    def only_valid(self, array):
        """The entries that are real, one after the other."""
        if array is not None:
            return array.reshape(-1, *array.shape[self.valid.ndim :])[self.valid.reshape(-1)]


def batches(row, shape):
    """Three batches of one shape, (rows, features) or (rows, steps, features): for one program."""
    drawn = zlib.crc32(str(row).encode())
    for seed in range(3):
        rng = np.random.default_rng([drawn, seed])
        y_true, y_pred = row.make(rng, shape)
        weights = [
            rng.integers(0, 3, shape[:axes]).astype("float32") for axes in range(1, len(shape))
        ]
        for weight in weights:
            weight.reshape(-1)[0] = 1  # there is something
        size = math.prod(shape[:-1])
        real = np.append(True, rng.permutation(size - 1) < 0.6 * size)  # as many in each
        cuts = ([3], [1], [1, 3])[drawn % 3]
        yield Batch(y_true, y_pred, [None, *weights], real.reshape(shape[:-1]), cuts)


def classes_of(module):
    return {name for name, found in vars(module).items() if inspect.isclass(found)}


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


LOSSES = [
    Row("BinaryCrossentropy", chances),
    Row("BinaryCrossentropy", logits, {"from_logits": True, "label_smoothing": 0.2}),
    Row("BinaryFocalCrossentropy", chances),
    Row("BinaryFocalCrossentropy", logits, {"from_logits": True, "apply_class_balancing": True}),
    Row("CategoricalCrossentropy", one_hot, shapes=SEVERAL),
    Row("CategoricalCrossentropy", shares, {"label_smoothing": 0.2}, shapes=SEVERAL),
    Row("CategoricalFocalCrossentropy", one_hot, shapes=SEVERAL),
    Row("CategoricalGeneralizedCrossEntropy", numbered, shapes=SEVERAL),
    Row("CategoricalHinge", one_hot, shapes=SEVERAL),
    Row("Circle", pairs, {"gamma": 8.0}, shapes=((4, 3), (6, 3))),
    Row("CosineSimilarity", numbers),
    Row("CTC", spoken, shapes=FLAT),
    Row("Dice", chances, shapes=((4, 2, 3), (4, 1))),
    Row("Hinge", chances),
    Row("Hinge", signs),
    Row("Huber", numbers),
    Row("KLDivergence", shares, shapes=SEVERAL),
    Row("LogCosh", numbers),
    Row("MeanAbsoluteError", numbers),
    Row("MeanAbsolutePercentageError", numbers),
    Row("MeanSquaredError", numbers),
    Row("MeanSquaredLogarithmicError", positive),
    Row("Poisson", positive),
    Row("SparseCategoricalCrossentropy", numbered, shapes=SEVERAL),
    Row("SparseCategoricalCrossentropy", scored, {"from_logits": True}, shapes=SEVERAL),
    Row("SparseCategoricalCrossentropy", numbered, {"ignore_class": 1}, shapes=SEVERAL),
    Row("SquaredHinge", chances),
    Row("SquaredHinge", signs),
    Row("Tversky", chances, shapes=((4, 2, 3), (4, 1))),  # Keras 3.15.1 swaps alpha and beta
]


def gap(y_true, y_pred):
    return abs(y_true - y_pred).mean(-1)


METRICS = [
    Row("Accuracy", classes, shapes=SEVERAL),
    Row("AUC", chances),
    Row("AUC", logits, {"curve": "PR", "from_logits": True}),
    Row("BinaryAccuracy", chances),
    Row("BinaryCrossentropy", chances),
    Row("BinaryIoU", yes_no),
    Row("CategoricalAccuracy", one_hot, shapes=SEVERAL),
    Row("CategoricalCrossentropy", one_hot, shapes=SEVERAL),
    Row("CategoricalHinge", one_hot, shapes=SEVERAL),
    Row("ConcordanceCorrelation", numbers, shapes=SEVERAL),
    Row("CosineSimilarity", numbers),
    Row("F1Score", one_hot, shapes=FLAT),
    Row("FalseNegatives", chances),
    Row("FalsePositives", chances, {"thresholds": [0.3, 0.7]}),
    Row("FBetaScore", chances, {"beta": 2.0, "threshold": 0.4, "average": "macro"}, shapes=FLAT),
    Row("Hinge", signs),
    Row("IoU", classes, {"num_classes": 3, "target_class_ids": [0, 2]}, shapes=SEVERAL),
    Row("KLDivergence", shares, shapes=SEVERAL),
    Row("LogCoshError", numbers),
    Row("Mean", values),
    Row("MeanAbsoluteError", numbers),
    Row("MeanAbsolutePercentageError", numbers),
    Row("MeanIoU", classes, {"num_classes": 3}, shapes=SEVERAL),
    Row("MeanMetricWrapper", numbers, {"fn": gap}),
    Row("MeanSquaredError", numbers),
    Row("MeanSquaredLogarithmicError", positive),
    Row("OneHotIoU", one_hot, {"num_classes": 3, "target_class_ids": [0, 1]}, shapes=SEVERAL),
    Row("OneHotMeanIoU", one_hot, {"num_classes": 3}, shapes=SEVERAL),
    Row("PearsonCorrelation", numbers, shapes=SEVERAL),
    Row("Poisson", positive),
    Row("Precision", chances),
    Row("Precision", one_hot, {"top_k": 2, "class_id": 1}, shapes=SEVERAL),
    Row("PrecisionAtRecall", chances, {"recall": 0.5}),
    Row("R2Score", numbers, shapes=FLAT),
    Row("Recall", chances),
    Row("RecallAtPrecision", chances, {"precision": 0.5}),
    Row("RootMeanSquaredError", numbers),
    Row("SensitivityAtSpecificity", chances, {"specificity": 0.5}),
    Row("SparseCategoricalAccuracy", numbered, shapes=SEVERAL),
    Row("SparseCategoricalCrossentropy", numbered, shapes=SEVERAL),
    Row("SparseTopKCategoricalAccuracy", numbered, {"k": 2}, shapes=SEVERAL),
    Row("SpecificityAtSensitivity", chances, {"sensitivity": 0.5}),
    Row("SquaredHinge", signs),
    Row("Sum", values),
    Row("TopKCategoricalAccuracy", one_hot, {"k": 2}, shapes=SEVERAL),
    Row("TrueNegatives", chances),
    Row("TruePositives", chances),
]
