"""activity_regularizer: on a layer of one's own, and on a built-in one."""

import keras
import numpy as np
from keras import layers, ops, regularizers


class Quadratic(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units),
            initializer="glorot_uniform",
            regularizer=regularizers.L2(0.01),
            name="kernel",
        )

    def call(self, inputs):
        return ops.square(ops.matmul(inputs, self.kernel))


rng = np.random.default_rng(0)
x = rng.normal(size=(8, 3)).astype("float32")
y = rng.normal(size=(8, 2)).astype("float32")

model = keras.Sequential(
    [
        keras.Input((3,)),
        Quadratic(4, activity_regularizer=regularizers.L1(0.1)),
        layers.Dense(2, activity_regularizer="l2"),
    ]
)
model.compile(optimizer=keras.optimizers.SGD(0.02), loss="mse")


def run():
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return {
        "losses": history.history["loss"],
        "evaluated": model.evaluate(x, y, verbose=0),
    }
