"""Assignment in `call`: a layer that counts its batches and remembers a running sum."""

import keras
import numpy as np
from keras import layers, ops


class RunningSum(layers.Layer):
    def build(self, input_shape):
        self.total = self.add_weight(
            shape=(input_shape[-1],), initializer="zeros", trainable=False, name="total"
        )
        self.calls = keras.Variable(0.0, trainable=False, dtype="float32", name="calls")

    def call(self, inputs, training=False):
        if training:
            self.total.assign_add(ops.sum(inputs, axis=0))
            self.calls.assign(self.calls + 1.0)
        return inputs - self.total / ops.maximum(self.calls, 1.0)


rng = np.random.default_rng(0)
x = rng.normal(size=(12, 3)).astype("float32")
y = rng.normal(size=(12, 1)).astype("float32")

running = RunningSum()
model = keras.Sequential([keras.Input((3,)), running, layers.Dense(1)])
model.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")


def run():
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    after_fit = np.asarray(running.total)
    running.total.assign(np.zeros(3))
    return {
        "losses": history.history["loss"],
        "total": after_fit,
        "calls": float(running.calls),
        "after_reset": model.predict(x, verbose=0),
        "fixed": [v.name for v in running.non_trainable_variables],
    }
