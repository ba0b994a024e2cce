"""fnn: Sequential and Model, compile and fit."""

from functools import partial

import jax
import jax.numpy as jnp

import fnn
from benchmarks.workloads import BLOCKS, GPT, LEARNING_RATE, LSTM, RESNET
from fnn import layers, networks


def trainer(model, loss, data):
    model.compile(fnn.optimizers.Adam(LEARNING_RATE), loss=loss)

    def epoch():
        history = model.fit(data.x, data.y, batch_size=data.batch, epochs=1, verbose=0)
        return history.history["loss"][-1]

    return epoch


def mlp():
    return fnn.Sequential([layers.Dense(16, "relu"), layers.Dense(1, "sigmoid")])


def cnn():
    return fnn.Sequential(
        [
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, "relu"),
            layers.Dense(10, "softmax"),
        ]
    )


def lstm():
    return fnn.Sequential(
        [layers.LSTM(LSTM["units"]), layers.Dense(LSTM["classes"], "softmax")]
    )


class Positions(fnn.Layer):
    """Adds a learned vector for each position.   (batch, time, width) -> the same"""

    def init(self, key, x):
        return {"embeddings": 0.02 * jax.random.normal(key, x.shape[1:])}, {}

    def apply(self, params, state, x, ctx=None):
        return x + jnp.expand_dims(params["embeddings"], 0), state


def gpt(blocks):
    width, heads = GPT["width"], GPT["heads"]
    inputs = fnn.Input((GPT["context"],), dtype="int32")
    h = Positions()(layers.Embedding(GPT["vocabulary"], width)(inputs))
    for _ in range(blocks):
        normal = layers.LayerNormalization()(h)
        attention = layers.MultiHeadAttention(
            heads, width // heads, use_causal_mask=True
        )
        h = layers.Add()([h, attention(normal, normal)])
        up = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(h))
        h = layers.Add()([h, layers.Dense(width)(up)])
    outputs = layers.Dense(GPT["vocabulary"], "softmax")(layers.LayerNormalization()(h))
    return fnn.Model(inputs, outputs)


def resnet():
    shape = (RESNET["size"], RESNET["size"], 3)
    return fnn.Model(networks.resnet(50, RESNET["classes"], shape))


NETWORKS = {
    "mlp": mlp,
    "cnn": cnn,
    "gpt": partial(gpt, BLOCKS["gpt"]),
    "gpt12": partial(gpt, BLOCKS["gpt12"]),
    "lstm": lstm,
    "resnet": resnet,
}
LOSSES = {
    **dict.fromkeys(NETWORKS, "sparse_categorical_crossentropy"),
    "mlp": "binary_crossentropy",
}


def runner(workload):
    return lambda data: trainer(NETWORKS[workload](), LOSSES[workload], data)


RUNNERS = {workload: runner(workload) for workload in NETWORKS}
