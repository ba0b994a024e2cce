"""Every loss and metric of Keras: the same numbers over drawn shapes, weights, masks and splits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnn import losses, metrics
from tests.helpers.loss_metric_rows import (
    LOSSES,
    METRICS,
    batches,
    by_name,
    classes_of,
    close,
    spoken,
)
from tests.helpers.metric_examples import compiled
from tests.helpers.oracle import keras_rules

pytestmark = pytest.mark.slow

# Each is tried with all reductions and weights: a loss is half a second to compile.
FEW = settings(max_examples=2, deadline=None, derandomize=True, database=None)
MEANS = ("sum_over_batch_size", "mean_with_sample_weight")
REDUCTIONS = (*MEANS, "sum", "none")


# -- losses --------------------------------------------------------------------------------------


# One number for a region, which may be the whole batch. (Of one weight Keras drops the axis.)
REGIONS = ("Dice", "Tversky")
# What each entry has to do with the others is lost where a batch is cut, and Keras goes on to
# compare real entries with masked ones: there fnn leaves these out wholly.
TOGETHER = ("Circle", *REGIONS)
# Weights and reductions are one function for all losses. These are tried with each pair of them,
# the others with each of both: one number for the batch, for each entry, and a mask of its own.
ALL_PAIRS = (*REGIONS, "MeanSquaredError", "SparseCategoricalCrossentropy-ignore_class")


def test_every_loss_of_keras_is_drawn(keras):
    with keras_rules():
        wanted = classes_of(keras.losses)
    assert wanted - {row.name for row in LOSSES} == {"Loss"}  # from which the others are made


def pairs(data, row, batch):
    """Of reductions and numbers of weights."""
    weights = range(len(batch.weights))
    if str(row) in ALL_PAIRS:
        return [*itertools.product(REDUCTIONS, weights)]
    first = data.draw(st.sampled_from(weights))
    return [(case, (first + i) % len(weights)) for i, case in enumerate(REDUCTIONS)]


def graded(loss, cases, y_pred, weights, *rest):
    """The loss by these reductions and weights, an array each, and the gradients of their sums."""

    def sums(y_pred, weights, *rest):
        values = [jnp.asarray(loss(case, y_pred, weights[i], *rest)) for case, i in cases]
        return jnp.stack([value.sum() for value in values]), values

    gradients, values = jax.jit(jax.jacrev(sums, has_aux=True))(y_pred, weights, *rest)
    return values, gradients


def of_class(module, row):
    return lambda reduction: getattr(module, row.name)(**row.arguments, reduction=reduction)


@by_name(LOSSES)
@FEW
@given(data=st.data())
def test_a_loss_and_its_gradient_are_those_of_keras(keras, row, data):
    ours, theirs = of_class(losses, row), of_class(keras.losses, row)
    batch = data.draw(batches(row))
    cases = pairs(data, row, batch)
    found = lambda reduction, p, weight, t: ours(reduction)(t, p, weight)
    values, gradients = graded(found, cases, batch.y_pred, batch.weights, batch.y_true)
    # a number for the whole batch is weighed as often as there are weights
    weights = batch.weights if row.name in REGIONS else [*map(batch.each, batch.weights)]
    with keras_rules():
        wanted = lambda reduction, p, weight, t: theirs(reduction)(t, p, sample_weight=weight)
        expected = graded(wanted, cases, batch.y_pred, weights, batch.y_true)
    close(values, expected[0])
    close(gradients, expected[1])


@by_name(LOSSES)
@FEW
@given(data=st.data())
def test_under_a_mask_a_loss_is_that_of_keras_whatever_the_batches(keras, row, data):
    """The sums of batches make the loss that Keras has of all, whatever the masked entries hold.

    That is a loss under Keras's own mask, or of the real entries alone in `TOGETHER`.
    """
    ours, theirs = of_class(losses, row), of_class(keras.losses, row)
    batch = data.draw(batches(row))
    batch.cuts = [] if row.name in TOGETHER else batch.cuts
    alone = batch.only_valid if row.name in TOGETHER else lambda array: array

    def of_batches(reduction, p, weight, t, valid):
        parts = [ours(reduction).totals(*part) for part in batch.parts(t, p, weight, valid)]
        total, count = map(sum, zip(*parts, strict=True))
        return total / jnp.maximum(count, 1e-12) if reduction in MEANS else total

    def under_a_mask(reduction, p, weight, t, valid):
        if row.name not in TOGETHER:
            keras.src.backend.set_keras_mask(p, valid)
        return theirs(reduction)(t, p, sample_weight=weight).sum()

    cases, spoiled = pairs(data, row, batch), batch.spoiled(batch.valid)
    given = spoiled, batch.weights, batch.y_true, batch.valid
    values, gradients = graded(of_batches, cases, *given)
    weights = [alone(batch.each(weight)) for weight in batch.weights]
    with keras_rules():
        given = alone(batch.y_pred), weights, alone(batch.y_true), batch.valid
        expected = graded(under_a_mask, cases, *given)
    close(values, expected[0])
    close(map(alone, gradients), expected[1])
    assert not gradients[:, ~batch.valid].any()


@FEW
@given(data=st.data())
def test_ctc_under_a_mask_of_steps_is_that_of_keras_over_the_real_ones(keras, data):
    """Keras lays such a mask over the values, one for each row, and fails or is wrong."""
    y_true, y_pred = spoken(np.random.default_rng(data.draw(st.integers(0, 2**16))), (3, 3))
    kept = np.array(data.draw(st.permutations([1, 1, 1, 1, 0, 0])), bool)
    steps = np.stack([kept, kept[::-1], np.sort(kept)])
    with keras_rules():
        theirs = keras.losses.CTC()
        shorter = np.stack([p[real] for p, real in zip(y_pred, steps, strict=True)])
        expected = theirs(y_true, shorter)
    spoiled = np.where(steps[..., None], y_pred, np.nan)
    total, count = jax.jit(losses.CTC().totals)(y_true, spoiled, None, steps)
    close([total / count], [expected])


# -- metrics -------------------------------------------------------------------------------------


def test_every_metric_of_keras_is_drawn(keras):
    with keras_rules():
        wanted = classes_of(keras.metrics)
    assert wanted - {row.name for row in METRICS} == {"Metric"}  # from which the others are made


def of_keras(keras, row, batch, weight, mask):
    """The metric of Keras over the whole batch, whose masks only its means of functions see."""
    metric, y_pred = getattr(keras.metrics, row.name)(**row.arguments), jnp.asarray(batch.y_pred)
    if mask is not None and isinstance(metric, keras.metrics.MeanMetricWrapper):
        keras.src.backend.set_keras_mask(y_pred, mask)
    elif mask is not None:
        weight = mask.astype("float32")
    given = [y_pred] if batch.y_true is None else [batch.y_true, y_pred]
    metric.update_state(*given, sample_weight=batch.each(weight))
    return metric.result()


def over_batches(row, batch, ways):
    """Our metric by each way to weigh the entries; those that do not count may hold anything."""
    metric, given = getattr(metrics, row.name)(**row.arguments), []
    for weight, mask in ways:
        own = weight if mask is None else mask.astype("float32")
        y_pred = batch.y_pred if own is None else batch.spoiled(own != 0)
        compared = [y_pred] if batch.y_true is None else [batch.y_true, y_pred]
        given.append((compared, [*batch.parts(*compared, own)]))

    def values(given):
        update = compiled(metric)  # traced once for batches of a size
        for compared, parts in given:
            sums = metric.init(*compared)
            for part in parts:
                sums = update(sums, *part)
            yield metric.result(sums)

    return jax.jit(lambda given: [*values(given)])(given)


@by_name(METRICS)
@FEW
@given(data=st.data())
def test_a_metric_over_any_batches_is_that_of_keras_over_one(keras, row, data):
    batch = data.draw(batches(row))
    ways = [*((w, None) for w in batch.weights), (None, batch.valid)]
    with keras_rules():
        expected = [np.asarray(of_keras(keras, row, batch, *way)) for way in ways]
    close(over_batches(row, batch, ways), expected)
