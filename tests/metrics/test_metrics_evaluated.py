"""Every metric of Keras in `compile` and `evaluate`: a padded batch, sample weights, masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import Sequential, metrics
from fnn.layers import Activation, Masking
from fnn.metrics.confusion import ConfusionMetric
from fnn.metrics.losses import MeanOfLoss
from tests.helpers.loss_metric_rows import (
    FLAT,
    METRICS,
    Batch,
    classes,
    classes_of,
    close,
    numbers,
    yes_no,
)
from tests.helpers.oracle import keras_rules

pytestmark = pytest.mark.slow

VALUES = ("Mean", "Sum")  # these take no targets, so that they are no metrics of a model
EVALUATED = [row for row in METRICS if row.name not in VALUES]
WITHOUT_FEATURES = (classes, yes_no)
MASKED = [row for row in EVALUATED if row.shapes != FLAT and row.make not in WITHOUT_FEATURES]
# `evaluate` reaches the means of losses, and the counts of outcomes, by the methods of one base:
# one for each kind of targets shows it, the others are evaluated in `make thorough`.
ALIKE = (MeanOfLoss, ConfusionMetric)


def base(row):
    return next((one for one in ALIKE if issubclass(getattr(metrics, row.name), one)), str(row))


def others(rows):
    """The rows after the first of each base and kind of targets."""
    kinds = [(row.make, base(row)) for row in rows]
    return [row for place, row in enumerate(rows) if kinds[place] in kinds[:place]]


THOROUGH = {False: others(EVALUATED), True: others(MASKED)}


def ends(make, masked):
    """Metrics without weights are tried under a mask too, but for one kind of targets alone."""
    return ("weighted",) if masked and make is not numbers else ("plain", "weighted")


@functools.cache
def evaluated(make, masked, thorough):
    """What a model says of one kind of targets, by all metrics for it, and the data it has seen.

    It returns what it is given; its last batch is half padding. With a mask it leaves out steps
    that hold zeros alone.
    """
    rng = np.random.default_rng(3)
    steps = (4,) if masked or make in WITHOUT_FEATURES else ()
    shape = (10, *steps, 3)
    y_true, x = make(rng, shape)
    weight = rng.integers(0, 4, len(x)).astype("float32")
    valid = rng.uniform(size=shape[:-1]) < 0.7 if masked else np.ones(shape[:-1], bool)
    given = np.where(valid[..., None], x, 0) if masked else x
    rows = THOROUGH[masked] if thorough else MASKED if masked else EVALUATED
    rows = [row for row in rows if row.make is make and (row in THOROUGH[masked]) == thorough]
    own = lambda end: [
        getattr(metrics, row.name)(**row.arguments, name=f"{row} {end}") for row in rows
    ]
    model = Sequential([Masking() if masked else Activation("linear")])
    plain = own("plain") if "plain" in ends(make, masked) else []
    model.compile(metrics=plain, weighted_metrics=own("weighted"))
    logs = model.evaluate(given, y_true, 4, sample_weight=weight, verbose=0, return_dict=True)
    found = model.predict(given, verbose=0)
    np.testing.assert_array_equal(found, given)
    # Keras, without a network here, makes NaN of zeros that should be shares, at weight 0 too
    return logs, Batch(y_true, x, [None, weight], valid, [])


@pytest.mark.parametrize(
    ("row", "masked"),
    [
        pytest.param(row, masked, marks=pytest.mark.thorough if row in THOROUGH[masked] else ())
        for masked, rows in ((False, EVALUATED), (True, MASKED))
        for row in rows
    ],
    ids=lambda value: "masked" * value if isinstance(value, bool) else str(value),
)
def test_an_evaluated_metric_is_that_of_keras_over_all_that_is_real(keras, row, masked):
    logs, batch = evaluated(row.make, masked, row in THOROUGH[masked])
    real = batch.valid.astype("float32")
    tried = ends(row.make, masked)
    weights = [real, real * batch.each(batch.weights[1])][-len(tried) :]

    def result(weight, y_true, y_pred):
        oracle = getattr(keras.metrics, row.name)(**row.arguments)
        oracle.update_state(y_true, y_pred, sample_weight=weight)
        return jnp.asarray(oracle.result())

    with keras_rules():  # operation by operation each would be a program
        run = jax.jit(lambda weights, *compared: [result(w, *compared) for w in weights])
        expected = run(weights, batch.y_true, batch.y_pred)
    close([np.asarray(logs[f"{row} {end}"]) for end in tried], expected)


def test_every_metric_of_keras_is_evaluated(keras):
    with keras_rules():
        wanted = classes_of(keras.metrics) - {"Metric"}  # from which the others are made
    assert {row.name for row in EVALUATED} == wanted - set(VALUES)
    flat = {row.name for row in EVALUATED} - {row.name for row in MASKED}
    assert flat == {"Accuracy", "BinaryIoU", "FBetaScore", "F1Score", "IoU", "MeanIoU", "R2Score"}
