"""Regularizers and constraints give Keras's numbers."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import constraints, regularizers
from fnn.core.config import from_config, to_config
from fnn.core.registry import names_of
from tests.helpers.oracle import keras_rules

pytestmark = pytest.mark.slow

W = np.random.default_rng(0).normal(0, 2, (5, 4)).astype("float32")
KERNEL = np.random.default_rng(1).normal(0, 2, (3, 3, 5, 4)).astype("float32")

REGULARIZERS = [
    ("L1", {}),
    ("L1", {"l1": 0.3}),
    ("L2", {}),
    ("L2", {"l2": 0.3}),
    ("L1L2", {}),
    ("L1L2", {"l1": 0.1}),
    ("L1L2", {"l1": 0.1, "l2": 0.2}),
    ("OrthogonalRegularizer", {}),
    ("OrthogonalRegularizer", {"factor": 0.3, "mode": "columns"}),
]
CONSTRAINTS = [
    ("MaxNorm", {}, W),
    ("MaxNorm", {"max_value": 1.0, "axis": 1}, W),
    ("MaxNorm", {"max_value": 3.0, "axis": [0, 1, 2]}, KERNEL),
    ("NonNeg", {}, W),
    ("UnitNorm", {}, W),
    ("UnitNorm", {"axis": [0, 1, 2]}, KERNEL),
    ("MinMaxNorm", {}, W),
    ("MinMaxNorm", {"min_value": 4.0, "max_value": 5.0, "rate": 0.3, "axis": 1}, W),
]


@pytest.mark.parametrize(("name", "arguments"), REGULARIZERS)
def test_penalty_and_gradient_are_those_of_keras(name, arguments):
    import keras

    ours = getattr(regularizers, name)(**arguments)
    value, gradient = jax.jit(jax.value_and_grad(ours))(jnp.asarray(W))
    with keras_rules():
        theirs = getattr(keras.regularizers, name)(**arguments)
        wanted, wanted_gradient = jax.jit(jax.value_and_grad(theirs))(jnp.asarray(W))
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-5, atol=1e-5)
    assert from_config(to_config(ours)) == ours


@pytest.mark.parametrize(("name", "arguments", "w"), CONSTRAINTS)
def test_constrained_weight_is_that_of_keras(name, arguments, w):
    import keras

    ours = getattr(constraints, name)(**arguments)
    with keras_rules():
        wanted = getattr(keras.constraints, name)(**arguments)(w)
    np.testing.assert_allclose(ours(jnp.asarray(w)), wanted, rtol=1e-5, atol=1e-6)
    assert from_config(to_config(ours)) == ours
    assert hash(ours) == hash(from_config(to_config(ours)))
    np.testing.assert_array_equal(ours(jnp.zeros_like(w)), np.zeros_like(w))


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [("regularizer", regularizers, {"l1_l2", "l1_and_l2"}), ("constraint", constraints, set())],
)
def test_every_name_and_argument_of_keras_is_known(kind, module, extra):
    import keras

    known = getattr(keras.src, f"{kind}s").ALL_OBJECTS_DICT
    theirs = {name: cls for name, cls in known.items() if name.lower() != kind}
    assert set(names_of(kind)) == set(theirs) | extra
    for name, cls in theirs.items():
        if name != "l1l2":
            ours = type(module.get(name))
            assert ours.__name__ == cls.__name__
            assert [(p.name, p.default) for p in inspect.signature(ours).parameters.values()] == [
                (p.name, p.default) for p in inspect.signature(cls).parameters.values()
            ]


def test_the_name_l1_l2_is_a_penalty():
    for name in ("l1_l2", "l1l2"):
        value = regularizers.get(name)(jnp.asarray(W))
        np.testing.assert_allclose(value, 0.01 * (np.abs(W) + W**2).sum(), rtol=1e-5)
    assert regularizers.l1_l2(l1=0.1) == regularizers.L1L2(0.1, 0.0)
    assert regularizers.l2(0.1) == regularizers.L2(0.1)
    assert constraints.max_norm(3) == constraints.MaxNorm(3)


def test_orthogonal_penalty_has_a_gradient_where_a_row_is_zero_and_for_one_row():
    for w in (jnp.zeros((3, 4)), jnp.ones((1, 4))):
        value, gradient = jax.value_and_grad(regularizers.OrthogonalRegularizer())(w)
        assert value == 0
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: regularizers.L1(-1), "L1: expected l1 to be a finite number not below 0"),
        (lambda: regularizers.L2(float("inf")), "expected l2 to be a finite number"),
        (lambda: regularizers.L1L2(l2="a"), "expected l2 to be a number"),
        (lambda: regularizers.OrthogonalRegularizer(mode="x"), "mode to be one of 'rows'"),
        (lambda: regularizers.OrthogonalRegularizer()(jnp.ones(3)), r"2 axes, received .*\(3,\)"),
        (lambda: regularizers.get("l3"), "expected a regularizer that fnn knows, received 'l3'"),
        (lambda: constraints.MaxNorm(-1), "max_value to be a finite number not below 0"),
        (lambda: constraints.MinMaxNorm(2.0, 1.0), "min_value to be at most max_value=1.0"),
        (lambda: constraints.MinMaxNorm(rate=2.0), "rate to be a number between 0 and 1"),
        (lambda: constraints.get("maxnorm"), "did you mean 'MaxNorm' or 'max_norm'|'max_norm'"),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()
