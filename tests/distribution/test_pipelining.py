"""The copies of `Repeat` as stages of a pipeline: the outputs and gradients of the layer alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import distribution as D
from fnn import layers as L

X = np.random.default_rng(0).normal(size=(12, 5, 8)).astype("float32")


def blocks(dropout=0.0):
    return L.Repeat(L.TransformerEncoderBlock(8, 2, dropout=dropout), 4)


def grid():
    return D.DeviceMesh((2, 4), ("data", "stage"))


@pytest.mark.slow
def test_outputs_and_gradients_are_those_of_the_layer():
    layer, results = blocks(), []
    params, state = layer.init(jax.random.key(0), X)
    divided = D.DataParallel(grid())
    first = jax.sharding.NamedSharding(divided.mesh, jax.sharding.PartitionSpec("stage"))
    staged = D.pipeline(layer, grid(), microbatches=3), jax.device_put(params, first)
    for apply, weights, x in ((layer.apply, params, X), (*staged, divided.divide(X))):

        def loss(params, x, apply=apply):
            y, _ = apply(params, state, x)
            return jnp.sin(y).sum(), y

        results.append(jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(weights, x))
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    # Weights and gradients stay where they are computed.
    kernel = results[1][1][0]["feedforward_up"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (1, 8, 32)


@pytest.mark.slow
def test_each_microbatch_and_each_copy_draws_its_own_dropout():
    layer = L.Repeat(L.Dropout(0.5), 4)
    ctx = fnn.Context(train=True, key=jax.random.key(0))
    apply = D.pipeline(layer, grid(), microbatches=6)
    y, _ = jax.jit(lambda x: apply({}, {}, x, ctx))(jnp.ones((12, 1000)))
    kept = np.asarray(y > 0)
    assert kept.mean() == pytest.approx(1 / 16, abs=0.01)
    assert len({row.tobytes() for row in kept}) == 12


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: D.pipeline(L.Repeat(L.Dense(8), 6), grid()), r"size divides times=6, received"),
        (lambda: D.pipeline(blocks(), grid(), axis="x"), "expected an axis 'x'"),
        (lambda: D.pipeline(blocks(), grid(), microbatches=5)({}, {}, X), "5 microbatches do not"),
        (lambda: D.pipeline(blocks(), grid())({}, {"a": X}, X), "a layer without state"),
    ],
)
def test_wrong_arguments_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()
