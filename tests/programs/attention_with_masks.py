"""Attention with masks of one's own: padding, the future, and a mask given as an argument."""

import keras
import numpy as np
from keras import layers, ops


class MaskedAttention(layers.Layer):
    def __init__(self, heads, width, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.heads = heads
        self.width = width
        self.query = layers.Dense(width)
        self.key = layers.Dense(width)
        self.value = layers.Dense(width)
        self.combine = layers.Dense(width)

    def split(self, x):
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.heads, self.width // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def call(self, inputs, attention_mask=None, mask=None):
        query, key, value = (
            self.split(layer(inputs)) for layer in (self.query, self.key, self.value)
        )
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        scores = scores / np.sqrt(self.width // self.heads)
        length = ops.shape(inputs)[1]
        allowed = ops.tril(ops.ones((1, 1, length, length), dtype="bool"))
        if mask is not None:
            allowed = ops.logical_and(allowed, mask[:, None, None, :])
        if attention_mask is not None:
            given = ops.cast(attention_mask, "bool")
            allowed = ops.logical_and(allowed, given[:, None])
        scores = ops.where(allowed, scores, -1e9)
        y = ops.matmul(ops.softmax(scores, axis=-1), value)
        y = ops.transpose(y, (0, 2, 1, 3))
        return self.combine(ops.reshape(y, (-1, length, self.width)))


tokens = keras.Input((5,), dtype="int32")
pairs = keras.Input((5, 5), dtype="int32")
x = layers.Embedding(10, 8, mask_zero=True)(tokens)
x = MaskedAttention(2, 8)(x, attention_mask=pairs)
x = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
x = layers.GlobalAveragePooling1D()(x)
model = keras.Model([tokens, pairs], layers.Dense(1)(x))
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")

rng = np.random.default_rng(0)
ids = rng.integers(1, 10, size=(6, 5)).astype("int32")
ids[0, 3:] = 0
ids[2, 1:] = 0
allowed = (rng.uniform(size=(6, 5, 5)) > 0.3).astype("int32")
allowed[:, np.arange(5), np.arange(5)] = 1
y = rng.normal(size=(6, 1)).astype("float32")


def run():
    history = model.fit([ids, allowed], y, batch_size=3, epochs=2, shuffle=False, verbose=0)
    return history.history
