"""Calls that cannot be meant: answered in one place, for every layer, before anything computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core.checks import check_pair
from fnn.core.context import INFERENCE, Context
from fnn.layers import Activation, Dense, Dropout, Input, Lambda, Residual, Sequential

KEY, X = jax.random.key(0), jnp.ones((8, 3))
LAYERS = [Dense(3), Dropout(0.5), Activation("relu"), Sequential([Dense(3)]), Residual(Dense(3))]


class Own(fnn.Layer):
    def apply(self, params, state, x, ctx=INFERENCE):
        return x, state


APPLY = [
    (
        (X, True),
        r"a Context after the inputs, received True; .*Context\(train=True, key=key\)\)",
    ),
    ((X, KEY), r"a Context after the inputs, received an array key"),
    (
        ([[1.0] * 3],),
        r"received \[\[1.0, 1.0, 1.0\]\]; use apply\(params, state, jnp.asarray\(x\)\)",
    ),
    (((X, [1.0]),), "or a tuple of them"),
    (("a text" * 99,), r"received 'a text.*\.\.\.; use apply"),
    ((Input((3,)),), r"received a symbolic node; call the layer itself on it, layer\(x\)"),
]
INIT = [
    ((0, X), r"a key of jax.random, received 0; use init\(jax.random.key\(0\), x\)"),
    ((X, KEY), r"a key of jax.random, received an array float32\[8, 3\]"),
    ((KEY, (8, 3)), r"received \(8, 3\); use init\(key, jnp.zeros\(\(8, 3\)\)\)"),
    ((KEY, [[1.0, 2.0]]), r"use init\(key, jnp.asarray\(x\)\)"),
]


@pytest.mark.parametrize("layer", [*LAYERS, Own()], ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize(("given", "message"), APPLY)
def test_apply_of_any_layer_says_what_it_wants(layer, given, message):
    params, state = layer.init(KEY, X)
    with pytest.raises(TypeError, match=f"{type(layer).__name__}: expected .*{message}"):
        layer.apply(params, state, *given)


@pytest.mark.parametrize("layer", [Dense(3), Sequential([Dense(3)]), Residual(Dense(3))], ids=str)
@pytest.mark.parametrize(("given", "message"), INIT)
def test_init_of_any_layer_says_what_it_wants(layer, given, message):
    with pytest.raises(TypeError, match=f"{type(layer).__name__}: expected .*{message}"):
        layer.init(*given)


def test_inputs_in_the_place_of_the_state():
    params, state = Dense(3).init(KEY, X)
    with pytest.raises(TypeError, match=r"the state before the inputs, received an array float32"):
        Dense(3).apply(params, X, state)
    with pytest.raises(TypeError, match="the state before the inputs"):
        Dense(3).apply(params, X)
    with pytest.raises(TypeError, match=r"Dense.apply\(\) missing 1 required .* 'x'"):
        Dense(3).apply(params, state)


@pytest.mark.slow
def test_what_is_meant_goes_through():
    for key in (jax.random.PRNGKey(0), KEY):
        params, state = Dense(3).init(key, np.ones((8, 3)))
    for x in (X, np.ones((8, 3), "float32")):
        y, _ = Dense(3).apply(params, state, x, Context(train=True, key=KEY))
        assert y.shape == (8, 3)
    keys = jax.random.split(KEY, 4)
    assert jax.vmap(Dense(3).init, (0, None))(keys, X)[0]["kernel"].shape == (4, 3, 3)
    spec = jax.ShapeDtypeStruct((8, 3), "float32")
    assert jax.eval_shape(Dense(3).init, KEY, spec)[0]["bias"].shape == (3,)
    assert Dense(3).apply(params=params, state=state, x=X, ctx=INFERENCE)[0].shape == (8, 3)


def test_the_checks_leave_nothing_in_the_program():
    params, state = Dense(3).init(KEY, X)
    checked = jax.make_jaxpr(lambda p, x: Dense(3).apply(p, state, x)[0])(params, X)
    bare = Dense.apply.__wrapped__
    assert str(checked) == str(
        jax.make_jaxpr(lambda p, x: bare(Dense(3), p, state, x)[0])(params, X)
    )
    assert Dense.apply.__name__ == "apply"
    assert Dense.apply.__qualname__ == "Dense.apply"

    class Nothing:
        pass

    check_pair(Nothing)  # a class that defines neither is left as it is
    assert "apply" not in vars(Nothing)


def test_a_function_keeps_its_own_error():
    with pytest.raises(TypeError, match="dot_general"):
        Lambda(lambda x: x @ jnp.ones((2, 2))).apply({}, {}, X)
