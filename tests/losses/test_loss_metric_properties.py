"""Every loss and metric of Keras: the same numbers over drawn shapes, weights, masks and splits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import losses, metrics
from tests.helpers.loss_metric_rows import (
    LOSSES,
    METRICS,
    batches,
    classes_of,
    close,
    spoken,
)
from tests.helpers.metric_examples import compiled, result
from tests.helpers.oracle import keras_rules

pytestmark = pytest.mark.slow

MEANS = ("sum_over_batch_size", "mean_with_sample_weight")
REDUCTIONS = (*MEANS, "sum", "none")


# -- losses --------------------------------------------------------------------------------------


# One number for a region, which may be the whole batch. (Of one weight Keras drops the axis.)
REGIONS = ("Dice", "Tversky")
# What each entry has to do with the others is lost where a batch is cut, and Keras goes on to
# compare real entries with masked ones: there fnn leaves these out wholly.
TOGETHER = ("Circle", *REGIONS)
# Weights and reductions are one function for all losses. These are tried with each pair of them,
# the others with two: one number for the batch, for each entry, and a mask of its own.
ALL_PAIRS = (*REGIONS, "MeanSquaredError", "SparseCategoricalCrossentropy-ignore_class")


def shapes(rows, all_of, place):
    """Rows with their first shape, or in turn one from a place on; some with each of theirs."""
    found = []
    for number, row in enumerate(rows):
        others = row.shapes[place:]
        one = others[number % len(others)] if place else row.shapes[0]
        for shape in row.shapes if str(row) in all_of else [one]:
            found.append(pytest.param(row, shape, id=f"{row}-{shape}"))
    return pytest.mark.parametrize(("row", "shape"), found)


def between(cuts, *arrays):
    """The arrays (or None) between the cuts."""
    rows = len(next(a for a in arrays if a is not None))
    for first, last in itertools.pairwise([0, *[cut for cut in cuts if cut < rows], rows]):
        yield [None if a is None else a[first:last] for a in arrays]


def test_every_loss_of_keras_is_drawn(keras):
    with keras_rules():
        wanted = classes_of(keras.losses)
    assert wanted - {row.name for row in LOSSES} == {"Loss"}  # from which the others are made


def pairs(row, shape):
    """Of reductions and numbers of weights: all, or a mean and another with weights each."""
    count = len(shape)  # of ways to weigh the entries
    if str(row) in ALL_PAIRS and shape == row.shapes[0]:
        return [*itertools.product(REDUCTIONS, range(count))]
    place = LOSSES.index(row)
    kinds = [*itertools.product(MEANS, REDUCTIONS[2:])][place % 4]
    return [(kind, (place + i) % count) for i, kind in enumerate(kinds)]


def graded(loss, cases):
    """A program: the loss by these reductions and weights, and the gradient of a sum of them.

    Each number counts in it by a weight of its own, that of another case by another one.
    """

    @jax.jit
    def run(y_pred, weights, *rest):
        values, pull = jax.vjp(
            lambda y_pred: [
                jnp.asarray(loss(case, y_pred, weights[i], *rest)) for case, i in cases
            ],
            y_pred,
        )
        seeds = [
            np.cos(np.arange(v.size, dtype="float32") + place).reshape(v.shape)
            for place, v in enumerate(values)
        ]
        return [*values, *pull(seeds)]

    return run


def of_class(module, row):
    return lambda reduction: getattr(module, row.name)(**row.arguments, reduction=reduction)


@shapes(LOSSES, ALL_PAIRS, 1)
def test_a_loss_and_its_gradient_are_those_of_keras(keras, row, shape):
    ours, theirs, cases = of_class(losses, row), of_class(keras.losses, row), pairs(row, shape)
    found = graded(lambda reduction, p, w, t: ours(reduction)(t, p, w), cases)
    wanted = graded(lambda reduction, p, w, t: theirs(reduction)(t, p, sample_weight=w), cases)
    for batch in batches(row, shape):
        # a number for the whole batch is weighed as often as there are weights
        whole = row.name in REGIONS
        weights = batch.weights if whole else [*map(batch.each, batch.weights)]
        with keras_rules():
            expected = wanted(batch.y_pred, weights, batch.y_true)
        close(found(batch.y_pred, batch.weights, batch.y_true), expected)


@shapes(LOSSES, ALL_PAIRS, 0)
def test_under_a_mask_a_loss_is_that_of_keras_whatever_the_batches(keras, row, shape):
    """The sums of batches make the loss that Keras has of all, whatever the masked entries hold.

    That is a loss under Keras's own mask, or of the real entries alone in `TOGETHER`.
    """
    ours, theirs, cases = of_class(losses, row), of_class(keras.losses, row), pairs(row, shape)
    drawn = [*batches(row, shape)]
    cuts = [] if row.name in TOGETHER else drawn[0].cuts

    def of_batches(reduction, p, weight, t, valid):
        parts = [ours(reduction).totals(*part) for part in between(cuts, t, p, weight, valid)]
        total, count = map(sum, zip(*parts, strict=True))
        return total / jnp.maximum(count, 1e-12) if reduction in MEANS else total

    def under_a_mask(reduction, p, weight, t, valid):
        if row.name not in TOGETHER:
            keras.src.backend.set_keras_mask(p, valid)
        return theirs(reduction)(t, p, sample_weight=weight).sum()

    found, wanted = graded(of_batches, cases), graded(under_a_mask, cases)
    for batch in drawn:
        alone = batch.only_valid if row.name in TOGETHER else lambda array: array
        spoiled, weights = batch.spoiled(batch.valid), [alone(batch.each(w)) for w in batch.weights]
        *values, gradient = found(spoiled, batch.weights, batch.y_true, batch.valid)
        with keras_rules():
            expected = wanted(alone(batch.y_pred), weights, alone(batch.y_true), batch.valid)
        close([*values, alone(gradient)], expected)
        assert not gradient[~batch.valid].any()


@pytest.mark.parametrize("seed", range(2))
def test_ctc_under_a_mask_of_steps_is_that_of_keras_over_the_real_ones(keras, seed):
    """Keras lays such a mask over the values, one for each row, and fails or is wrong."""
    rng = np.random.default_rng(seed)
    y_true, y_pred = spoken(rng, (3, 3))
    kept = rng.permutation([1, 1, 1, 1, 0, 0]).astype(bool)
    steps = np.stack([kept, kept[::-1], np.sort(kept)])
    with keras_rules():
        theirs = jax.jit(keras.losses.CTC())
        shorter = np.stack([p[real] for p, real in zip(y_pred, steps, strict=True)])
        expected = theirs(y_true, shorter)
    spoiled = np.where(steps[..., None], y_pred, np.nan)
    total, count = jax.jit(losses.CTC().totals)(y_true, spoiled, None, steps)
    close([total / count], [expected])


# -- metrics -------------------------------------------------------------------------------------

# That one function takes (rows, features) and (rows, steps, features), these show.
ALL_SHAPES = ("MeanSquaredError", "BinaryAccuracy", "SparseCategoricalCrossentropy", "AUC")


def test_every_metric_of_keras_is_drawn(keras):
    with keras_rules():
        wanted = classes_of(keras.metrics)
    assert wanted - {row.name for row in METRICS} == {"Metric"}  # from which the others are made


def of_keras(keras, row):
    """A program: the metric of Keras over a whole batch, by each way to weigh its entries.

    Masks are seen by its means of functions alone.
    """

    def run(compared, weight, mask):
        metric = getattr(keras.metrics, row.name)(**row.arguments)
        if mask is not None and isinstance(metric, keras.metrics.MeanMetricWrapper):
            keras.src.backend.set_keras_mask(compared[-1], mask)
        elif mask is not None:
            weight = mask.astype("float32")
        metric.update_state(*compared, sample_weight=weight)
        return jnp.asarray(metric.result())

    # operation by operation each would be a program
    return jax.jit(lambda compared, ways: [run([*compared], *way) for way in ways])


CUTS = [1, 3]


def weighed(batch):
    """Weights of the batches, none, of rows and of steps, and those of all entries together."""
    kinds = [*batch.weights, batch.weights[-1]][: len(CUTS) + 1]
    if len(batch.y_pred) == 1:
        kinds = kinds[-1:]
    spans = itertools.pairwise([0, *CUTS, None])
    parts = [w if w is None else w[a:b] for w, (a, b) in zip(kinds, spans, strict=False)]
    ones = np.ones(batch.valid.shape, "float32")
    each = [ones if w is None else batch.each(w) for w in kinds]
    spans = itertools.pairwise([0, *CUTS, None])
    whole = [w[a:b] for w, (a, b) in zip(each, spans, strict=False)]
    return parts, np.concatenate(whole)


def over_batches(metric, compared, weights):
    """Our metric of batches with weights each; batches of a size are one program."""
    sums, update = metric.init(*compared), compiled(metric)
    for part, weight in zip(between(CUTS, *compared), weights, strict=True):
        sums = update(sums, *part, weight)
    return result(metric, sums)


@shapes(METRICS, ALL_SHAPES, 0)
def test_a_metric_over_any_batches_is_that_of_keras_over_one(keras, row, shape):
    metric, wanted = getattr(metrics, row.name)(**row.arguments), of_keras(keras, row)
    for batch in batches(row, shape):
        compared = lambda p, t=batch.y_true: [p] if t is None else [t, p]
        parts, whole = weighed(batch)
        real = batch.valid.astype("float32")
        with keras_rules():
            ways = [(whole, None), (None, batch.valid)]
            expected = wanted(compared(batch.y_pred), ways)
        masked = [part for (part,) in between(CUTS, real)]
        found = [
            # entries that do not count may hold anything
            over_batches(metric, compared(batch.spoiled(weight != 0)), given)
            for weight, given in ((whole, parts), (real, masked))
        ]
        close(found, expected)
