"""Keras on JAX: compile and fit."""

import os
from functools import partial

os.environ["KERAS_BACKEND"] = "jax"

import keras
from keras import layers

from benchmarks.workloads import BLOCKS, GPT, LEARNING_RATE, LSTM, RESNET


def trainer(model, loss, data):
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss=loss)

    def epoch():
        history = model.fit(data.x, data.y, batch_size=data.batch, epochs=1, verbose=0)
        return history.history["loss"][-1]

    return epoch


def mlp():
    return keras.Sequential(
        [layers.Dense(16, activation="relu"), layers.Dense(1, activation="sigmoid")]
    )


def cnn():
    return keras.Sequential(
        [
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def lstm():
    return keras.Sequential(
        [
            layers.LSTM(LSTM["units"]),
            layers.Dense(LSTM["classes"], activation="softmax"),
        ]
    )


class Positions(layers.Layer):
    def build(self, shape):
        self.embeddings = self.add_weight(shape=shape[1:], initializer="random_normal")

    def call(self, x):
        return x + self.embeddings


def gpt(blocks):
    width, heads = GPT["width"], GPT["heads"]
    inputs = keras.Input((GPT["context"],), dtype="int32")
    h = Positions()(layers.Embedding(GPT["vocabulary"], width)(inputs))
    for _ in range(blocks):
        normal = layers.LayerNormalization()(h)
        attention = layers.MultiHeadAttention(heads, width // heads)
        h = layers.Add()([h, attention(normal, normal, use_causal_mask=True)])
        up = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization()(h))
        h = layers.Add()([h, layers.Dense(width)(up)])
    outputs = layers.Dense(GPT["vocabulary"], activation="softmax")(
        layers.LayerNormalization()(h)
    )
    return keras.Model(inputs, outputs)


def resnet():
    shape = (RESNET["size"], RESNET["size"], 3)
    return keras.applications.ResNet50(
        weights=None, input_shape=shape, classes=RESNET["classes"], name="resnet50"
    )


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
