"""Two inputs and two outputs by name, losses and weights by name, a layer of layers in lists."""

import keras
import numpy as np
from keras import layers, losses

random = np.random.default_rng(0)
words = random.integers(1, 20, size=(8, 7))
body = random.normal(size=(8, 6)).astype("float32")
title_input = keras.Input((None,), dtype="int32", name="title")
body_input = keras.Input((6,), name="body")
x = layers.LSTM(5)(layers.Embedding(20, 4)(title_input))
x = layers.concatenate([x, body_input])
outputs = {"priority": layers.Dense(1)(x), "department": layers.Dense(3)(x)}
model = keras.Model([title_input, body_input], outputs)


def run():
    model.compile(
        keras.optimizers.SGD(0.05),
        loss={
            "priority": losses.BinaryCrossentropy(from_logits=True),
            "department": losses.SparseCategoricalCrossentropy(from_logits=True),
        },
        loss_weights={"priority": 1.0, "department": 0.2},
        metrics={"department": ["accuracy"]},
    )
    x = {"title": words, "body": body}
    y = {"priority": (body[:, :1] > 0) * 1.0, "department": np.arange(8) % 3}
    history = model.fit(x, y, epochs=2, batch_size=4, shuffle=False, verbose=0)
    return history.history, model.predict(x, verbose=0)
