"""Keras on JAX: stateless_call of a layer."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
from keras import layers


def runner(make_layer, pair=False):
    def make(x):
        layer, x, floats = (
            make_layer(),
            jnp.asarray(x),
            jnp.issubdtype(x.dtype, jnp.floating),
        )
        inputs = lambda x: (x, x) if pair else (x,)
        layer(*inputs(x))
        weights = [v.value for v in layer.trainable_variables]
        state = [v.value for v in layer.non_trainable_variables]

        def objective(weights, x, state):
            named = {"training": True} if layer._call_has_training_arg else {}
            y, state = layer.stateless_call(weights, state, *inputs(x), **named)
            return jnp.sum(y**2), state

        graded = jax.jit(
            jax.value_and_grad(objective, (0, 1) if floats else 0, has_aux=True)
        )

        def step():
            nonlocal state
            (value, state), _ = jax.block_until_ready(graded(weights, x, state))
            return value

        return step

    return make


RUNNERS = {
    "Dense": runner(lambda: layers.Dense(256, "relu")),
    "Conv2D": runner(lambda: layers.Conv2D(32, 3, padding="same")),
    "DepthwiseConv2D": runner(lambda: layers.DepthwiseConv2D(3, padding="same")),
    "MaxPooling2D": runner(lambda: layers.MaxPooling2D()),
    "UpSampling2D": runner(lambda: layers.UpSampling2D()),
    "BatchNormalization": runner(lambda: layers.BatchNormalization()),
    "LayerNormalization": runner(lambda: layers.LayerNormalization()),
    "Dropout": runner(lambda: layers.Dropout(0.5)),
    "Embedding": runner(lambda: layers.Embedding(1000, 64)),
    "LSTM": runner(lambda: layers.LSTM(64, return_sequences=True)),
    "GRU": runner(lambda: layers.GRU(64, return_sequences=True)),
    "MultiHeadAttention": runner(lambda: layers.MultiHeadAttention(4, 32), pair=True),
}
