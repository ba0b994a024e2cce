"""Keras on JAX: compile and fit."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
from keras import layers

from benchmarks.workloads import GPT, LEARNING_RATE, LSTM


def trainer(model, loss, data):
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss=loss)

    def epoch():
        history = model.fit(data.x, data.y, batch_size=data.batch, epochs=1, verbose=0)
        return history.history["loss"][-1]

    return epoch


def mlp(data):
    model = keras.Sequential(
        [layers.Dense(16, activation="relu"), layers.Dense(1, activation="sigmoid")]
    )
    return trainer(model, "binary_crossentropy", data)


def cnn(data):
    model = keras.Sequential(
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
    return trainer(model, "sparse_categorical_crossentropy", data)


def lstm(data):
    model = keras.Sequential(
        [layers.LSTM(LSTM["units"]), layers.Dense(LSTM["classes"], activation="softmax")]
    )
    return trainer(model, "sparse_categorical_crossentropy", data)


class Positions(layers.Layer):
    def build(self, shape):
        self.embeddings = self.add_weight(shape=shape[1:], initializer="random_normal")

    def call(self, x):
        return x + self.embeddings


def gpt(data):
    width, heads = GPT["width"], GPT["heads"]
    inputs = keras.Input((GPT["context"],), dtype="int32")
    h = Positions()(layers.Embedding(GPT["vocabulary"], width)(inputs))
    for _ in range(GPT["blocks"]):
        normal = layers.LayerNormalization()(h)
        attention = layers.MultiHeadAttention(heads, width // heads)
        h = layers.Add()([h, attention(normal, normal, use_causal_mask=True)])
        up = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization()(h))
        h = layers.Add()([h, layers.Dense(width)(up)])
    outputs = layers.Dense(GPT["vocabulary"], activation="softmax")(layers.LayerNormalization()(h))
    return trainer(keras.Model(inputs, outputs), "sparse_categorical_crossentropy", data)


RUNNERS = {"mlp": mlp, "cnn": cnn, "gpt": gpt, "lstm": lstm}
