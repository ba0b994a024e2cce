"""fnn: Sequential and Model, compile and fit."""

import jax
import jax.numpy as jnp

import fnn
from benchmarks.workloads import GPT, LEARNING_RATE, LSTM, SkipError
from fnn import layers


def trainer(model, loss, data):
    model.compile(fnn.optimizers.Adam(LEARNING_RATE), loss=loss)

    def epoch():
        history = model.fit(data.x, data.y, batch_size=data.batch, epochs=1, verbose=0)
        return history.history["loss"][-1]

    return epoch


def need(*names):
    missing = [name for name in names if not hasattr(layers, name)]
    if missing:
        raise SkipError(f"fnn.layers has no {', '.join(missing)} yet")


def mlp(data):
    model = fnn.Sequential([layers.Dense(16, "relu"), layers.Dense(1, "sigmoid")])
    return trainer(model, "binary_crossentropy", data)


def cnn(data):
    need("Conv2D", "MaxPooling2D", "Flatten")
    model = fnn.Sequential(
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
    return trainer(model, "sparse_categorical_crossentropy", data)


def lstm(data):
    need("LSTM")
    model = fnn.Sequential([layers.LSTM(LSTM["units"]), layers.Dense(LSTM["classes"], "softmax")])
    return trainer(model, "sparse_categorical_crossentropy", data)


class Positions(fnn.Layer):
    """Adds a learned vector for each position.   (batch, time, width) -> the same"""

    def init(self, key, x):
        return {"embeddings": 0.02 * jax.random.normal(key, x.shape[1:])}, {}

    def apply(self, params, state, x, ctx=None):
        return x + jnp.expand_dims(params["embeddings"], 0), state


def gpt(data):
    need("MultiHeadAttention", "LayerNormalization", "Embedding", "Add")
    width, heads = GPT["width"], GPT["heads"]
    inputs = fnn.Input((GPT["context"],), dtype="int32")
    h = Positions()(layers.Embedding(GPT["vocabulary"], width)(inputs))
    for _ in range(GPT["blocks"]):
        normal = layers.LayerNormalization()(h)
        attention = layers.MultiHeadAttention(heads, width // heads, use_causal_mask=True)
        h = layers.Add()([h, attention(normal, normal)])
        up = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(h))
        h = layers.Add()([h, layers.Dense(width)(up)])
    outputs = layers.Dense(GPT["vocabulary"], "softmax")(layers.LayerNormalization()(h))
    return trainer(fnn.Model(inputs, outputs), "sparse_categorical_crossentropy", data)


RUNNERS = {"mlp": mlp, "cnn": cnn, "gpt": gpt, "lstm": lstm}
