"""Networks of each kind that is exported, with inputs for five examples."""

import numpy as np

import fnn
from fnn import layers as L

RANDOM = np.random.default_rng(0)


def numbers(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def dense():
    rows = [L.Dense(8, "relu", input_shape=(4,)), L.BatchNormalization(), L.Dropout(0.5)]
    return fnn.Sequential([*rows, L.Dense(3, "softmax")], seed=0), numbers(5, 4)


def images():
    rows = [L.Conv2D(4, 3, padding="same", activation="relu", input_shape=(8, 8, 1))]
    rows += [L.MaxPooling2D(), L.ZeroPadding2D(1), L.Conv2DTranspose(2, 3, 2), L.Flatten()]
    return fnn.Sequential([*rows, L.Dense(3)], seed=0), numbers(5, 8, 8, 1)


def masked():
    ids = fnn.Input((7,), dtype="int32")
    x = L.Embedding(20, 6, mask_zero=True)(ids)
    x = L.LSTM(5, return_sequences=True)(x)
    numbered = RANDOM.integers(0, 20, (5, 7)).astype("int32")
    return fnn.Model(ids, L.Dense(3)(x), seed=0), numbered


def attention():
    x = fnn.Input((6, 8))
    y = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(2, 4)(x, x)]))
    return fnn.Model(x, y, seed=0), numbers(5, 6, 8)


def by_name():
    a, b = fnn.Input((3,)), fnn.Input((2,))
    outputs = {"sum": L.Dense(2)(a), "all": L.Concatenate()([a, b])}
    return fnn.Model({"a": a, "b": b}, outputs, seed=0), {"a": numbers(5, 3), "b": numbers(5, 2)}


def several():
    a, b = fnn.Input((None, 3), name="first"), fnn.Input((None, 3), name="second")
    added = L.Add()([a, b])
    return fnn.Model([a, b], [added, L.Dense(2)(added)], seed=0), [
        numbers(5, 4, 3),
        numbers(5, 4, 3),
    ]


class Subclassed(fnn.Model):
    """A class in Keras's way."""

    def __init__(self):
        super().__init__()
        self.dense = L.Dense(3)
        self.dropout = L.Dropout(0.5)

    def call(self, x, training=False):
        return self.dropout(self.dense(x), training=training)


def subclassed():
    model, x = Subclassed(), numbers(5, 3)
    model(x)
    return model, x


def across_examples():
    rows = [L.Dense(3, input_shape=(4,)), L.Lambda(minus_mean)]
    return fnn.Sequential(rows, seed=0), numbers(5, 4)


@fnn.register
def minus_mean(x):
    return x - x.mean(0, keepdims=True)


def frozen():
    x = fnn.Input((3,), name="x")
    y = L.Frozen(L.Dense(2))(x)
    return fnn.Model(x, {"first": y, "again": L.Dropout(0.5)(y), "input": x}, seed=0), numbers(5, 3)


NETWORKS = [
    dense, images, masked, attention, by_name, several, subclassed, across_examples, frozen
]  # fmt: skip
