"""Losses and metrics over drawn shapes, weights, masks and splits into batches."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnn import losses, metrics
from tests.oracle import keras_rules

PLAIN = settings(max_examples=25, deadline=None, derandomize=True)


@dataclasses.dataclass
class Batch:
    """Targets and predictions with weights, and where to cut them."""

    y_true: np.ndarray
    y_pred: np.ndarray
    weight: np.ndarray | None
    valid: np.ndarray
    cuts: list[int]

    def weight_of_each(self):
        """The weights spread over steps, as Keras needs them."""
        if self.weight is None or self.weight.ndim == self.valid.ndim:
            return self.weight
        return np.repeat(self.weight[:, None], self.valid.shape[1], axis=1)

    def parts(self):
        """The batches between the cuts, as (targets, predictions, weights, valid)."""
        edges = [0, *self.cuts, len(self.y_pred)]
        for first, last in itertools.pairwise(edges):
            if first < last:
                part = slice(first, last)
                weight = None if self.weight is None else self.weight[part]
                yield self.y_true[part], self.y_pred[part], weight, self.valid[part]


def numbers(rng, shape):
    return rng.normal(size=shape), rng.normal(size=shape)


def positive(rng, shape):
    return rng.integers(0, 4, shape), rng.uniform(0.1, 3, shape)


def chances(rng, shape):
    return rng.integers(0, 2, shape), rng.uniform(0.05, 0.95, shape)


def shares(rng, shape):
    return (np.asarray(jax.nn.softmax(rng.normal(size=shape).astype("float32"))) for _ in "ab")


def one_hot(rng, shape):
    return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])], next(shares(rng, shape))


def numbered(rng, shape):
    return rng.integers(0, shape[-1], shape[:-1]), next(shares(rng, shape))


@st.composite
def batches(draw, make, steps=(None, 2)):
    """A batch of drawn shape: (rows, features) or (rows, steps, features)."""
    rows = draw(st.sampled_from([1, 3, 6]))
    step = draw(st.sampled_from(steps))
    shape = (rows, *([] if step is None else [step]), draw(st.sampled_from([2, 3])))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    y_true, y_pred = make(rng, shape)
    kind = draw(st.sampled_from(["none", "rows", "entries"]))
    weight = None
    if kind != "none":
        weight = rng.integers(0, 3, shape[:1] if kind == "rows" else shape[:-1]).astype("float32")
        weight.reshape(-1)[0] = 1.0
    valid = rng.uniform(size=shape[:-1]) < 0.7
    valid.reshape(-1)[0] = True
    cuts = sorted(draw(st.lists(st.integers(0, rows), max_size=2)))
    as_given = "int32" if make is numbered else "float32"
    return Batch(y_true.astype(as_given), y_pred.astype("float32"), weight, valid, cuts)


def of(kinds):
    """A drawn (name, batch) of a table of names and makers."""
    return st.sampled_from(kinds).flatmap(lambda row: st.tuples(st.just(row[0]), batches(*row[1:])))


LOSSES = [
    ("MeanSquaredError", numbers),
    ("MeanAbsoluteError", numbers),
    ("Huber", numbers),
    ("LogCosh", numbers),
    ("CosineSimilarity", numbers),
    ("Poisson", positive),
    ("MeanSquaredLogarithmicError", positive),
    ("KLDivergence", shares),
    ("Hinge", chances),
    ("BinaryCrossentropy", chances),
    ("BinaryFocalCrossentropy", chances),
    ("CategoricalCrossentropy", one_hot),
    ("CategoricalHinge", one_hot),
    ("SparseCategoricalCrossentropy", numbered),
]
METRICS = [
    ("MeanSquaredError", numbers),
    ("RootMeanSquaredError", numbers),
    ("CosineSimilarity", numbers),
    ("BinaryAccuracy", chances),
    ("BinaryCrossentropy", chances),
    ("CategoricalAccuracy", one_hot),
    ("SparseCategoricalAccuracy", numbered),
    ("SparseTopKCategoricalAccuracy", numbered),
    ("SparseCategoricalCrossentropy", numbered),
    ("KLDivergence", shares),
    ("Precision", chances, (None,)),
    ("Recall", chances, (None,)),
    ("AUC", chances, (None,)),
    ("R2Score", numbers, (None,)),
    ("F1Score", one_hot, (None,)),
]


@pytest.fixture(scope="module")
def keras():
    with keras_rules():
        import keras

        return keras


@PLAIN
@given(drawn=of(LOSSES))
def test_a_loss_and_its_gradient_are_those_of_keras(keras, drawn):
    name, batch = drawn
    ours, y_true, weight = getattr(losses, name)(), batch.y_true, batch.weight_of_each()
    with keras_rules():
        theirs = getattr(keras.losses, name)()
        of_keras = jax.value_and_grad(lambda p: theirs(y_true, p, sample_weight=weight))
        expected = of_keras(batch.y_pred)
    found = jax.value_and_grad(lambda p: ours(y_true, p, batch.weight))(batch.y_pred)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@PLAIN
@given(drawn=of(LOSSES))
def test_the_totals_of_batches_add_up_to_those_of_the_whole(drawn):
    name, batch = drawn
    loss = getattr(losses, name)()
    whole = loss.totals(batch.y_true, batch.y_pred, batch.weight, batch.valid)
    totals, counts = zip(*(loss.totals(*part) for part in batch.parts()), strict=True)
    np.testing.assert_allclose(sum(totals), whole[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sum(counts), whole[1])


@PLAIN
@given(drawn=of(LOSSES))
def test_what_is_masked_is_as_good_as_absent(drawn):
    name, batch = drawn
    loss = getattr(losses, name)()
    y_pred = np.where(batch.valid[..., None], batch.y_pred, np.nan)
    ratio = lambda p: np.divide(*loss.totals(batch.y_true, p, batch.weight, batch.valid))
    kept = batch.valid.reshape(-1)
    flat = lambda a, axes: a.reshape(-1, *a.shape[axes:])[kept]
    axes = batch.valid.ndim
    weight = batch.weight_of_each()
    weight = None if weight is None else flat(weight, axes)
    expected = loss(flat(batch.y_true, axes), flat(batch.y_pred, axes), weight)
    np.testing.assert_allclose(ratio(y_pred), expected, rtol=1e-5, atol=1e-5)


@PLAIN
@given(drawn=of(METRICS))
def test_a_metric_over_any_batches_is_that_of_keras_over_one(keras, drawn):
    name, batch = drawn
    metric = getattr(metrics, name)()
    weight = batch.weight_of_each()
    with keras_rules():
        oracle = getattr(keras.metrics, name)()
        oracle.update_state(batch.y_true, batch.y_pred, sample_weight=weight)
        expected = np.asarray(oracle.result())
    sums = metric.init(batch.y_true, batch.y_pred)
    for y_true, y_pred, own, _ in batch.parts():
        sums = metric.update(sums, y_true, y_pred, own)
    np.testing.assert_allclose(metric.result(sums), expected, rtol=1e-5, atol=1e-5)


@PLAIN
@given(drawn=of(METRICS))
def test_no_metric_sees_what_weighs_nothing(drawn):
    name, batch = drawn
    metric = getattr(metrics, name)()
    real = batch.valid.astype("float32")
    zeros = metric.init(batch.y_true, batch.y_pred)
    spoiled = np.where(batch.valid[..., None], batch.y_pred, np.nan)
    clean = metric.update(zeros, batch.y_true, batch.y_pred, real)
    found = metric.update(zeros, batch.y_true, spoiled, real)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, clean)
