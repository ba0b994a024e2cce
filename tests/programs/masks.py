"""Masks: one layer makes a mask, one passes it on, one shortens it, one uses it."""

import keras
import numpy as np
from keras import layers, ops


class SkipZeros(layers.Layer):
    def compute_mask(self, inputs, mask=None):
        return ops.any(ops.not_equal(inputs, 0.0), axis=-1)

    def call(self, inputs):
        return inputs


class Stretch(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return 1.5 * inputs


class EverySecond(layers.Layer):
    def call(self, inputs):
        return inputs[:, ::2]

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else mask[:, ::2]


class MaskedMean(layers.Layer):
    def call(self, inputs, mask=None):
        if mask is None:
            return ops.mean(inputs, axis=1)
        weights = ops.expand_dims(ops.cast(mask, inputs.dtype), -1)
        total = ops.sum(inputs * weights, axis=1)
        return total / ops.maximum(ops.sum(weights, axis=1), 1.0)

    def compute_mask(self, inputs, mask=None):
        return None


rng = np.random.default_rng(0)
x = rng.normal(size=(5, 6, 3)).astype("float32")
x[0, 4:] = 0.0
x[1, 1:] = 0.0
x[3, 2:] = 0.0
y = rng.normal(size=(5, 2)).astype("float32")

inputs = keras.Input((6, 3))
h = Stretch()(SkipZeros()(inputs))
h = layers.Dense(4, activation="tanh")(h)
pooled = MaskedMean()(EverySecond()(h))
read = layers.LSTM(3)(h)
outputs = layers.Dense(2)(layers.Concatenate()([pooled, read]))
model = keras.Model(inputs, outputs)
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")

ids = np.array([[3, 1, 0, 0], [2, 0, 0, 0]])
embedding = layers.Embedding(5, 3, mask_zero=True)
embedding.build((None, 4))
models = [model, embedding]


def run():
    history = model.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    return {
        "outputs": model.predict(x, verbose=0),
        "losses": history.history["loss"],
        "mask": np.asarray(embedding.compute_mask(ids)),
        "masked_mean": np.asarray(MaskedMean()(embedding(ids))),
    }
