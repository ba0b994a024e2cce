"""fnn: init and apply of a layer."""

import jax
import jax.numpy as jnp

from fnn import layers
from fnn.core.context import Context


def runner(layer, pair=False, random=False):
    def make(x):
        x, floats = jnp.asarray(x), jnp.issubdtype(x.dtype, jnp.floating)
        inputs = lambda x: (x, x) if pair else x
        params, state = layer.init(jax.random.key(0), inputs(x))
        key = jax.random.key(1) if random else None

        def objective(params, x, state, key):
            y, state = layer.apply(
                params, state, inputs(x), Context(train=True, key=key)
            )
            return jnp.sum(y**2), state

        @jax.jit
        def graded(params, x, state, key):
            key, use = jax.random.split(key) if random else (None, None)
            differentiate = jax.value_and_grad(
                objective, (0, 1) if floats else 0, has_aux=True
            )
            (value, state), gradients = differentiate(params, x, state, use)
            return value, gradients, state, key

        def step():
            nonlocal state, key
            value, _, state, key = jax.block_until_ready(graded(params, x, state, key))
            return value

        return step

    return make


RUNNERS = {
    "Dense": runner(layers.Dense(256, "relu")),
    "Conv2D": runner(layers.Conv2D(32, 3, padding="same")),
    "DepthwiseConv2D": runner(layers.DepthwiseConv2D(3, padding="same")),
    "MaxPooling2D": runner(layers.MaxPooling2D()),
    "UpSampling2D": runner(layers.UpSampling2D()),
    "BatchNormalization": runner(layers.BatchNormalization()),
    "LayerNormalization": runner(layers.LayerNormalization()),
    "Dropout": runner(layers.Dropout(0.5), random=True),
    "Embedding": runner(layers.Embedding(1000, 64)),
    "LSTM": runner(layers.LSTM(64, return_sequences=True)),
    "GRU": runner(layers.GRU(64, return_sequences=True)),
    "MultiHeadAttention": runner(layers.MultiHeadAttention(4, 32), pair=True),
}
