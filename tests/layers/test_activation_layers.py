"""Activation layers give Keras's outputs and gradients."""

import dataclasses
import functools
import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import activations, constraints, initializers, regularizers  # noqa: F401 - their names
from fnn.core.calling import call, output_spec, weight_spec
from fnn.core.config import from_config, to_config
from fnn.core.context import INFERENCE, Context, Masked, strip_masks
from fnn.core.fields import field_kind
from fnn.last_activation import without_last_activation
from fnn.layers import BatchNormalization, Dense, Dropout
from fnn.layers.activation import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from tests.helpers.catalogue import CATALOGUE, jit
from tests.helpers.compiling import with_gradients
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(0, 3, (2, 4, 3, 5)).astype("float32")

CASES = [
    ("Activation", {"activation": "gelu"}),
    ("Activation", {"activation": None}),
    ("ReLU", {}),
    ("ReLU", {"max_value": 2.0}),
    ("ReLU", {"max_value": 2.0, "negative_slope": 0.1, "threshold": 0.5}),
    ("LeakyReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.1}),
    ("PReLU", {"alpha_initializer": "ones"}),
    ("PReLU", {"shared_axes": 2}),
    ("PReLU", {"shared_axes": [1, 2]}),
    ("ELU", {}),
    ("ELU", {"alpha": 0.3}),
    ("Softmax", {}),
    ("Softmax", {"axis": 1}),
    ("Softmax", {"axis": (1, 3)}),
]
CLASSES = {c.__name__: c for c in (Activation, ReLU, LeakyReLU, PReLU, ELU, Softmax)}


# Rows of the catalogue, which test_keras_layers.py compares alike.
IN_CATALOGUE = [CASES[i] for i in (0, 2, 5, 10, 12, 13)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [pytest.param(*c, marks=pytest.mark.thorough if c in IN_CATALOGUE else ()) for c in CASES],
)
def test_outputs_and_gradients_are_those_of_keras(name, arguments, key):
    import keras

    layer = CLASSES[name](**arguments)
    params, state = weight_spec(layer, X)
    with keras_rules():
        theirs = getattr(keras.layers, name)(**arguments)
        theirs.build(X.shape)
        values = [v.value for v in theirs.trainable_variables]
        assert [v.shape for v in values] == [p.shape for p in params.values()]
        weights = [np.linspace(-1, 1, v.size, dtype="float32").reshape(v.shape) for v in values]

        def keras_call(weights, x):
            return theirs.stateless_call(weights, [], x)[0]

        seed = np.random.default_rng(1).normal(size=X.shape).astype("float32")
        params = dict(zip(params, weights, strict=True))
        ours = lambda params, x: layer.apply(params, state, x)[0]

        @jax.jit
        def both(weights, params, x):
            theirs = with_gradients(keras_call, seed, weights, x)
            return theirs, with_gradients(ours, seed, params, x)

        (wanted, wanted_gradients), (value, gradients) = both(weights, params, X)
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5)
    for ours, wanted in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(wanted_gradients), strict=True
    ):
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_signatures_are_those_of_keras():
    import keras

    for name, cls in CLASSES.items():
        theirs = inspect.signature(getattr(keras.layers, name)).parameters.values()
        ours = inspect.signature(cls).parameters.values()
        assert [(p.name, p.default) for p in ours if p.kind != p.KEYWORD_ONLY] == [
            (p.name, p.default) for p in theirs if p.name != "kwargs"
        ]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (3, 5), (4, 1, 5), (1, 5)])
@pytest.mark.parametrize("dtype", [bool, "float32"])
def test_softmax_with_a_mask_is_that_of_keras(shape, dtype, key):
    import keras

    mask = (np.random.default_rng(2).random(shape) > 0.4).astype(dtype)
    mask[..., 0, :] = 0  # all masked: no share to anyone

    def total(x, mask):
        y = Softmax().apply({}, {}, (x, mask))[0]
        return (y**2).sum(), y

    gradient, value = jax.jit(jax.grad(total, has_aux=True))(X, mask)
    with keras_rules():
        wanted = jax.jit(lambda x, mask: keras.layers.Softmax()(x, mask=mask))(X, mask)
    np.testing.assert_allclose(value, wanted, atol=1e-6)
    assert np.isfinite(gradient).all()
    assert output_spec(Softmax(), (X, mask)).shape == X.shape


def test_softmax_over_time_leaves_masked_steps_out(key):
    mask = np.array([[True, True, False, False], [True, True, True, True]])
    x = X[:, :, 0]  # (batch, time, features)

    @jax.jit
    def run(x, mask):
        y, _ = call(Softmax(axis=1), {}, {}, Masked(x, mask), Context())
        pair = Masked(x[:, :, 0], mask), jnp.ones((2, 4))
        pair, _ = call(Softmax(), {}, {}, pair, Context())
        return y, pair, jax.nn.softmax(x[0, :2], axis=0), jax.nn.softmax(x[1], axis=0)

    y, pair, short, long = run(x, mask)
    np.testing.assert_array_equal(y.mask, mask)
    np.testing.assert_allclose(y.values[0, :2], short, rtol=1e-5)
    np.testing.assert_array_equal(y.values[0, 2:], 0)
    np.testing.assert_allclose(y.values[1], long, rtol=1e-5)
    np.testing.assert_array_equal(pair.values[0, 2:], 0)
    np.testing.assert_allclose(pair.values.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("layer", [Activation("relu"), ReLU(), LeakyReLU(), PReLU(), ELU()])
def test_masks_pass(layer, key):
    mask = np.ones((2, 4), bool)
    params, state = weight_spec(layer, Masked(X, mask))

    def run(params, x):
        y, _ = call(layer, params, state, Masked(x, mask), Context())
        assert y.mask is mask
        return y.values

    assert jax.eval_shape(run, params, X).shape == X.shape


def test_an_activation_may_be_any_function_and_splits_off():
    half = functools.partial(activations.threshold, threshold=0.5, default_value=0.0)
    np.testing.assert_array_equal(Activation(half).apply({}, {}, X)[0], np.where(X > 0.5, X, 0))
    rest, ends = without_last_activation(Activation("softmax", name="last"), X)
    assert (rest, ends[()].name) == (Activation(None, name="last"), "softmax")
    assert rest.apply({}, {}, X)[0] is X
    assert Activation(activations.relu) == Activation("relu")


@pytest.mark.slow
def test_softmax_splits_off_unless_classes_are_masked():
    rest, ends = without_last_activation(Softmax(3, name="last", trainable=False), X)
    assert rest == Activation(None, name="last", trainable=False)
    np.testing.assert_array_equal(ends[()].of(X), jax.nn.softmax(X, 3))
    for x in ((X, X), Masked(X, np.ones(X.shape, bool))):
        assert without_last_activation(Softmax(), x) == (Softmax(), {})


@pytest.mark.slow
def test_a_network_that_ends_in_softmax_is_trained_through_its_logits():
    """At logits of -200 the probabilities are 0 and have no gradient."""
    x, y = jnp.eye(3), np.array([1, 2, 0])
    learned = []
    for ending in ([Softmax()], [Activation("softmax")]):
        model = fnn.Sequential([Dense(3, use_bias=False), *ending])
        model.compile(fnn.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
        model.fit(x, y, epochs=0, verbose=0)
        model.params = {**model.params, "dense": {"kernel": 200 * jnp.eye(3)}}
        history = model.fit(x, y, batch_size=3, verbose=0).history
        np.testing.assert_allclose(history["loss"], [200])
        learned.append(model.params["dense"]["kernel"])
    np.testing.assert_allclose(learned[0], 200 * np.eye(3) - (np.eye(3) - np.eye(3)[y]) / 3)
    np.testing.assert_array_equal(*learned)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Activation("rely"), "expected an activation that fnn knows, received 'rely'"),
        (lambda: ReLU(max_value=-1), "ReLU: expected max_value to be a finite number not below 0"),
        (
            lambda: ReLU(threshold=None),
            "expected threshold to be a number, received threshold=None",
        ),
        (lambda: LeakyReLU(-0.1), "expected negative_slope to be a finite number not below 0"),
        (lambda: output_spec(PReLU(shared_axes=4), X), "shared_axes to be axes of the inputs"),
        (lambda: output_spec(PReLU(shared_axes=[0]), X), "other than the batch, 0, received"),
        (lambda: output_spec(PReLU(), X[0, 0, 0]), "expected inputs of 2 axes"),
        (
            lambda: output_spec(Softmax(), (X, X[:, :2])),
            r"a mask that broadcasts to inputs of shape \(2, 4, 3, 5\), received",
        ),
        (lambda: Softmax().apply({}, {}, (X[0], X)), "a mask that broadcasts to"),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- layers as activations -------------------------------------------------------------------------

SLOPE = functools.partial(activations.leaky_relu, negative_slope=0.3)
WITH_ACTIVATIONS = [
    pytest.param(case, field.name, id=f"{type(case.layer).__name__}-{field.name}")
    for case in {type(case.layer): case for case in CATALOGUE}.values()
    for field in dataclasses.fields(case.layer)
    if field_kind(field.name) == "activation"
]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "field"), WITH_ACTIVATIONS)
def test_a_layer_without_weights_is_an_activation(case, field):
    layer = case.layer.replace(**{field: LeakyReLU()})
    again = case.layer.replace(**{field: LeakyReLU()})
    assert (layer, hash(layer), repr(layer)) == (again, hash(again), repr(again))
    assert layer != case.layer.replace(**{field: LeakyReLU(0.1)})
    assert from_config(json.loads(json.dumps(to_config(layer)))) == layer
    expected = case.layer.replace(**{field: SLOPE})
    run = lambda *given: strip_masks(call(*given, INFERENCE)[0])
    both = jit(lambda p, s, x: [run(one, p, s, x) for one in (layer, expected)])
    values, others = both(*case.weights, case.x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), values, others)


@pytest.mark.slow
def test_a_network_that_ends_in_such_a_layer_trains_and_is_saved(tmp_path):
    model = fnn.Sequential([Dense(4, LeakyReLU(), input_shape=(5,)), Dense(3, Softmax())], seed=0)
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = X.reshape(-1, 5), np.arange(24) % 3
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    assert again.layer == model.layer
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (PReLU(), r"Dense: expected activation to be .*without weights, received activation=PReLU"),
        (BatchNormalization(), r"without weights.*put the layer after this one: \[Dense\(...\)"),
        (Dropout(0.5), "expected a key, since this layer draws random numbers"),
    ],
)
def test_a_layer_with_weights_or_randomness_is_no_activation(activation, message):
    with pytest.raises(ValueError, match=message) as error:
        Dense(3, activation=activation)
    if isinstance(activation, Dropout):
        note = "as activation of Dense: put the layer after this one"
        assert note in "".join(error.value.__notes__)
