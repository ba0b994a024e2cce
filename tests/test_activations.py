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


@functools.cache
def of_all(library):
    """The values of each case with the gradients of a sum with weights, by one program."""
    functions = [functools.partial(library.get(name), **given) for name, given in CASES]
    draw = lambda shape: np.random.default_rng(1).normal(size=shape).astype("float32")
    seeds = [draw(jax.eval_shape(function, X).shape) for function in functions]
    return jax.jit(
        lambda x: [with_gradients(f, seed, x) for f, seed in zip(functions, seeds, strict=True)]
    )(X)


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[f"{name}-{given}" for name, given in CASES]
)
def test_values_and_gradients_are_those_of_keras(number):
    import keras

    with keras_rules():
        wanted, (wanted_gradient,) = of_all(keras.activations)[number]
    value, (gradient,) = of_all(activations)[number]
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


@pytest.mark.slow
@pytest.mark.parametrize("axis", [-1, 0])
def test_sparsemax_is_the_projection_onto_the_simplex(axis):
    # The oracle is optax's projection: Keras 3.15.1 gives numbers that do not sum to one.
    rows = X if axis == -1 else X.T
    project = jax.vmap(optax.projections.projection_simplex)
    ours = functools.partial(activations.sparsemax, axis=axis)
    seed = np.random.default_rng(1).normal(size=X.shape).astype("float32")
    seed_of_rows = seed if axis == -1 else seed.T
    wanted, (wanted_gradient,) = with_gradients(project, seed_of_rows, rows * np.float32(0.3))
    value, (gradient,) = with_gradients(ours, seed, X * np.float32(0.3))
    if axis == 0:
        wanted, wanted_gradient = wanted.T, wanted_gradient.T
    np.testing.assert_allclose(value, wanted, atol=1e-6)
    np.testing.assert_allclose(gradient, wanted_gradient, atol=1e-5)
    np.testing.assert_allclose(value.sum(axis), 1, atol=1e-6)
    assert (value == 0).any()


NAMED = sorted(set(names_of("activation")) - {"threshold"})


@functools.cache
def at_odd_places():
    """Of each: values and gradients at 0 and far out, in half precision, and of NaN."""

    def run(far, exponents, half, missing):
        found = {}
        for name in NAMED:
            f, x = activations.get(name), exponents if name == "exponential" else far
            value, pull = jax.vjp(f, x)
            found[name] = value, pull(jnp.ones_like(value))[0], f(half), f(missing)
        return found

    far, exponents = np.float32([0, 1e4, -1e4, -0.0]), np.float32([0, 50, -1e4, -0.0])
    half, missing = np.ones((2, 4), jnp.bfloat16), np.float32([np.nan, np.nan])
    return jax.jit(run)(far, exponents, half, missing)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_values_and_gradients_are_finite_at_zero_and_far_out(name):
    value, gradient, _, _ = at_odd_places()[name]
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMED)
def test_half_precision_stays_and_a_nan_is_not_hidden(name):
    _, _, half, missing = at_odd_places()[name]
    assert half.dtype == "bfloat16"
    assert np.isnan(missing).all()


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
