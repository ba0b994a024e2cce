"""Flax NNX: modules, split once into weights and the rest, so that jax.jit sees arrays alone."""

import jax
import jax.numpy as jnp
from flax import nnx


def runner(make_module):
    def make(x):
        x, floats = jnp.asarray(x), jnp.issubdtype(x.dtype, jnp.floating)
        definition, weights, rest = nnx.split(make_module(nnx.Rngs(0)), nnx.Param, ...)

        def objective(weights, x, rest):
            module = nnx.merge(definition, weights, rest, copy=True)
            y = module(x)
            return jnp.sum(y**2), nnx.split(module, nnx.Param, ...)[2]

        graded = jax.jit(
            jax.value_and_grad(objective, (0, 1) if floats else 0, has_aux=True)
        )

        def step():
            nonlocal rest
            (value, rest), _ = jax.block_until_ready(graded(weights, x, rest))
            return value

        return step

    return make


class Function(nnx.Module):
    """A module without weights."""

    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return self.function(x)


def doubled(x):
    n, height, width, channels = x.shape
    return jax.image.resize(x, (n, 2 * height, 2 * width, channels), "nearest")


RUNNERS = {
    "Dense": runner(
        lambda rngs: nnx.Sequential(nnx.Linear(256, 256, rngs=rngs), nnx.relu),
    ),
    "Conv2D": runner(lambda rngs: nnx.Conv(16, 32, (3, 3), rngs=rngs)),
    "DepthwiseConv2D": runner(
        lambda rngs: nnx.Conv(32, 32, (3, 3), feature_group_count=32, rngs=rngs)
    ),
    "MaxPooling2D": runner(
        lambda rngs: Function(lambda x: nnx.max_pool(x, (2, 2), strides=(2, 2)))
    ),
    "UpSampling2D": runner(lambda rngs: Function(doubled)),
    "BatchNormalization": runner(lambda rngs: nnx.BatchNorm(64, rngs=rngs)),
    "LayerNormalization": runner(lambda rngs: nnx.LayerNorm(128, rngs=rngs)),
    "Dropout": runner(lambda rngs: nnx.Dropout(0.5, rngs=rngs)),
    "Embedding": runner(lambda rngs: nnx.Embed(1000, 64, rngs=rngs)),
    "LSTM": runner(lambda rngs: nnx.RNN(nnx.OptimizedLSTMCell(32, 64, rngs=rngs))),
    "GRU": runner(lambda rngs: nnx.RNN(nnx.GRUCell(32, 64, rngs=rngs))),
    "MultiHeadAttention": runner(
        lambda rngs: nnx.MultiHeadAttention(4, 128, decode=False, rngs=rngs)
    ),
}
