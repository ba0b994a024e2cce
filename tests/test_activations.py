"""Activations give Keras's values and gradients, and stay finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnn import activations
from fnn.core.registry import names_of
from tests.helpers.compiling import with_gradients
from tests.helpers.oracle import keras_rules

pytestmark = pytest.mark.slow

# (name, arguments); every name that Keras knows must be here.
CASES = [
    *((name, {}) for name in names_of("activation") if name != "threshold"),
    ("relu", {"negative_slope": 0.3}),
    ("relu", {"max_value": 1.5}),
    ("relu", {"max_value": 6}),
    ("relu", {"threshold": 0.7}),
    ("relu", {"negative_slope": 0.3, "max_value": 1.5, "threshold": 0.7}),
    ("leaky_relu", {"negative_slope": 0.05}),
    ("gelu", {"approximate": True}),
    ("elu", {"alpha": 0.4}),
    ("celu", {"alpha": 0.4}),
    ("squareplus", {"b": 2}),
    ("hard_shrink", {"threshold": 1.1}),
    ("soft_shrink", {"threshold": 1.1}),
    ("threshold", {"threshold": 0.6, "default_value": -3.0}),
    ("softmax", {"axis": 0}),
    ("log_softmax", {"axis": 0}),
    ("glu", {"axis": 0}),
]
# Keras 3.15.1 sums running sums in its threshold, so its sparsemax does not sum to one.
CASES = [case for case in CASES if case[0] != "sparsemax"]
X = np.random.default_rng(0).normal(0, 3, (6, 8)).astype("float32")


def test_every_name_of_keras_is_known():
    from keras.src.activations import ALL_OBJECTS_DICT

    assert set(names_of("activation")) == set(ALL_OBJECTS_DICT)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_values_and_gradients_are_those_of_keras(name, arguments):
    import keras

    ours = functools.partial(activations.get(name), **arguments)
    theirs = functools.partial(keras.activations.get(name), **arguments)
    shape = jax.eval_shape(ours, X).shape
    seed = np.random.default_rng(1).normal(size=shape).astype("float32")
    with keras_rules():
        wanted, (wanted_gradient,) = with_gradients(theirs, seed, X)
    value, (gradient,) = with_gradients(ours, seed, X)
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-5, atol=1e-5)


def test_defaults_and_order_of_arguments_are_those_of_keras():
    import inspect

    import keras

    for name in names_of("activation"):
        ours, theirs = (inspect.signature(m.get(name)) for m in (activations, keras.activations))
        assert [(p.name, p.default) for p in ours.parameters.values()] == [
            (p.name, p.default) for p in theirs.parameters.values()
        ], name


@pytest.mark.parametrize("axis", [-1, 0])
def test_sparsemax_is_the_projection_onto_the_simplex(axis):
    # The oracle is optax's projection: Keras 3.15.1 gives numbers that do not sum to one.
    rows = X if axis == -1 else X.T
    project = jax.vmap(optax.projections.projection_simplex)
    wanted, wanted_pull = jax.vjp(project, rows * 0.3)
    value, pull = jax.vjp(functools.partial(activations.sparsemax, axis=axis), X * np.float32(0.3))
    seed = np.random.default_rng(1).normal(size=X.shape).astype("float32")
    gradient, wanted_gradient = pull(seed)[0], wanted_pull(seed if axis == -1 else seed.T)[0]
    if axis == 0:
        wanted, wanted_gradient = wanted.T, wanted_gradient.T
    np.testing.assert_allclose(value, wanted, atol=1e-6)
    np.testing.assert_allclose(gradient, wanted_gradient, atol=1e-5)
    np.testing.assert_allclose(value.sum(axis), 1, atol=1e-6)
    assert (value == 0).any()


@pytest.mark.parametrize("name", sorted(set(names_of("activation")) - {"threshold"}))
def test_values_and_gradients_are_finite_at_zero_and_far_out(name):
    x = jnp.array([0.0, 1e4, -1e4, -0.0] if name != "exponential" else [0.0, 50.0, -1e4, -0.0])
    value, pull = jax.vjp(activations.get(name), x)
    (gradient,) = pull(jnp.ones_like(value))
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", sorted(set(names_of("activation")) - {"threshold"}))
def test_half_precision_stays_and_a_nan_is_not_hidden(name):
    f = activations.get(name)
    assert f(jnp.ones((2, 4), "bfloat16")).dtype == "bfloat16"
    assert np.isnan(f(jnp.array([jnp.nan, jnp.nan]))).all()


def test_get_takes_names_functions_and_none():
    assert activations.get(None) is activations.linear
    assert activations.get("swish") is activations.silu is activations.swish
    assert activations.get("hard_swish") is activations.hard_swish
    half = functools.partial(activations.threshold, threshold=0.5, default_value=0.0)
    assert activations.get(half) is half
    with pytest.raises(ValueError, match="received 'rellu'; did you mean 'relu'"):
        activations.get("rellu")
    with pytest.raises(TypeError, match="expected a name, a function or a value"):
        activations.get(3)
