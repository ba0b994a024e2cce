"""Repeat: the program of many blocks is that of one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.core.calling import call, weight_spec
from fnn.core.context import INFERENCE, Context
from fnn.layers import Dense, Dropout, LayerNormalization, Remat, Repeat, Residual, Sequential

BLOCK = Residual(Sequential([LayerNormalization(), Dense(8, "gelu"), Dense(8), Dropout(0.1)]))
X = jax.ShapeDtypeStruct((2, 5, 8), jnp.float32)


def equations(jaxpr):
    """How many operations a jaxpr holds, those inside of its scans and calls included."""
    found = 0
    for equation in jaxpr.eqns:
        found += 1
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found += equations(inner)
    return found


def training_program(layer):
    """The jaxpr of the gradient of a loss in training."""
    params, state = weight_spec(layer, X)

    def loss(params, state, x, key):
        y, after = call(layer, params, state, x, Context(train=True, key=key))
        return (y**2).sum(), after

    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.make_jaxpr(jax.grad(loss, has_aux=True))(params, state, X, key).jaxpr


@pytest.mark.slow
@pytest.mark.parametrize("block", [BLOCK, Remat(BLOCK)], ids=["plain", "Remat"])
def test_the_program_does_not_grow_with_the_blocks(block):
    few, many = (equations(training_program(Repeat(block, times))) for times in (4, 48))
    assert few == many
    alone = equations(training_program(Sequential([block])))
    assert few < 2 * alone  # and is little more than that of one block


def test_without_repeat_it_grows():
    """So the count counts."""
    one, three = (equations(training_program(Sequential(n * [BLOCK]))) for n in (1, 3))
    assert three > 2.5 * one


def test_shape_and_dtype_are_kept():
    """At `init` float32 weights may widen the inputs, since a policy will narrow them."""
    layer, x = Repeat(Dense(4), 2), jnp.ones((3, 4), "bfloat16")
    params, state = weight_spec(layer, x)
    assert params["kernel"].dtype == jnp.float32
    run = lambda params: call(layer, params, state, x, INFERENCE)[0]
    narrow = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16), params)
    assert jax.eval_shape(run, narrow).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"shape bfloat16\[3, 4\], received float32\[3, 4\] from"):
        jax.eval_shape(run, params)
    with pytest.raises(ValueError, match=r"shape float32\[2, 5, 8\], received float32\[2, 5, 3\]"):
        weight_spec(Repeat(Dense(3), 2), X)


def test_dropout_differs_by_depth_and_by_step(key):
    x, layer, times = np.ones((4, 32), "float32"), Dropout(0.5), 5
    ctx = Context(train=True, key=key)
    each = [call(layer, {}, {}, x, ctx.repeat(i))[0] for i in range(times)]
    kept = {np.asarray(y > 0).tobytes() for y in each}
    assert len(kept) == times
    y, _ = call(Repeat(layer, times), {}, {}, x, ctx)
    np.testing.assert_array_equal(y, np.prod(each, 0))
    later, _ = call(Repeat(layer, times), {}, {}, x, Context(train=True, key=jax.random.key(1)))
    assert not np.array_equal(y, later)
