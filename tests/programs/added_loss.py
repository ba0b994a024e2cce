"""add_loss in `call`: layers that penalize their weights and their outputs."""

import keras
import numpy as np
from keras import layers, ops


class Sparse(layers.Layer):
    def __init__(self, units, rate=0.01, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(units, activation="relu")
        self.rate = rate

    def call(self, inputs):
        y = self.dense(inputs)
        self.add_loss(self.rate * ops.sum(ops.mean(ops.abs(y), axis=0)))
        return y


class Outer(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = Sparse(4)
        self.last = layers.Dense(1, kernel_regularizer="l2")

    def call(self, inputs):
        y = self.last(self.inner(inputs))
        self.add_loss(0.1 * ops.mean(ops.square(y)))
        return y


rng = np.random.default_rng(0)
x = rng.normal(size=(8, 3)).astype("float32")
y = rng.normal(size=(8, 1)).astype("float32")

inputs = keras.Input((3,))
model = keras.Model(inputs, Outer()(Sparse(5, 0.05)(inputs)))
model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")

alone = Sparse(2)
alone(x)
models = [model, alone]


def run():
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    alone(x)
    return {
        "losses": history.history["loss"],
        "evaluated": model.evaluate(x, y, batch_size=4, verbose=0),
        "of_the_last_call": [np.asarray(loss) for loss in alone.losses],
    }
