"""An ensemble is trained by `fit` as one model: each member as it would be alone."""

import jax
import numpy as np
import pytest

import fnn
from fnn.layers import Dense, Dropout, Ensemble, Input, Spread
from fnn.layers import Sequential as Stack

pytestmark = pytest.mark.slow

X = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
LABELS = np.random.default_rng(1).integers(0, 3, 50)
MEMBER = Stack([Dense(8, "relu", kernel_regularizer="l2"), Dense(3, "softmax")])
COMPILED = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}


def alone(params, index, optimizer):
    """The model of one member, with its weights."""
    model = fnn.Model(MEMBER, seed=0)
    model.build((None, 4))
    model.params = jax.tree.map(lambda a: a[index], params)
    model.compile(optimizer, **COMPILED)
    return model


@pytest.mark.parametrize("optimizer", [pytest.param("sgd", marks=pytest.mark.thorough), "adam"])
def test_each_member_is_trained_as_it_would_be_alone(optimizer):
    model = fnn.Sequential([Input((4,)), Ensemble(MEMBER, 3)], seed=0)
    before = model.params["ensemble"]
    model.compile(optimizer, **COMPILED)
    # Rows that do not fill the last batch, weights, and no shuffling that differs by model.
    given = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0}
    weight = np.linspace(0.5, 2, 50).astype("float32")
    history = model.fit(X, LABELS, sample_weight=weight, **given).history
    scores = model.evaluate(X, LABELS, verbose=0)
    histories, results = [], []
    for index in range(3):
        one = alone(before, index, optimizer)
        histories.append(one.fit(X, LABELS, sample_weight=weight, **given).history)
        results.append(one.evaluate(X, LABELS, verbose=0))
        trained = jax.tree.map(lambda a, i=index: a[i], model.params["ensemble"])
        for a, b in zip(jax.tree.leaves(trained), jax.tree.leaves(one.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        outputs = model.predict(X, verbose=0)[:, index]
        np.testing.assert_allclose(outputs, one.predict(X, verbose=0), rtol=1e-5, atol=1e-5)
    for name, values in history.items():
        mean = np.mean([single[name] for single in histories], 0)
        np.testing.assert_allclose(values, mean, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(scores, np.mean(results, 0), rtol=1e-5)


def test_mean_and_spread_over_the_members():
    ensemble = Ensemble(MEMBER, 4)
    model = fnn.Sequential([Input((4,)), ensemble], seed=0)
    each = model.predict(X, verbose=0)
    both = fnn.Model(Spread(ensemble))
    both.build((None, 4))
    both.params = model.params["ensemble"]
    mean, deviation = both.predict(X, verbose=0)
    np.testing.assert_allclose(mean, each.mean(1), rtol=1e-5)
    np.testing.assert_allclose(deviation, each.std(1), rtol=1e-5, atol=1e-5)


def test_members_differ_in_weights_and_dropout():
    member = Stack([Dense(8), Dropout(0.5)])
    layer = Ensemble(member, 2)
    params, state = layer.init(jax.random.key(0), X)
    kernel = params["dense"]["kernel"]
    assert not np.array_equal(kernel[0], kernel[1])
    same = jax.tree.map(lambda a: np.stack([a[0], a[0]]), params)
    ctx = fnn.Context(train=True, key=jax.random.key(1))
    outputs, _ = layer.apply(same, state, X, ctx)
    assert not np.array_equal(outputs[:, 0], outputs[:, 1])


def test_wrong_targets_are_told_as_for_one_member():
    model = fnn.Sequential([Input((4,)), Ensemble(MEMBER, 3)], seed=0)
    model.compile("sgd", **COMPILED)
    with pytest.raises(ValueError, match=r"of shape \(50,\) .* for predictions of shape \(50, 3\)"):
        model.fit(X, np.ones((50, 3, 3)), verbose=0)
    with pytest.raises(ValueError, match=r"label 3 at row 2, the model has classes 0\.\.2"):
        model.fit(X, LABELS + 1, verbose=0)
