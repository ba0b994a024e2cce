"""An RNN cell in Keras's form: state_size and call(inputs, states)."""

import keras
import numpy as np
from keras import layers, ops


class MinimalCell(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="uniform", name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, self.units),
            initializer="orthogonal",
            name="recurrent_kernel",
        )

    def call(self, inputs, states):
        previous = states[0]
        output = ops.matmul(inputs, self.kernel)
        output = output + ops.matmul(previous, self.recurrent_kernel)
        return output, [output]


rng = np.random.default_rng(0)
x = rng.normal(size=(6, 5, 3)).astype("float32")
y = rng.normal(size=(6, 1)).astype("float32")

inputs = keras.Input((5, 3))
h = layers.RNN(MinimalCell(4), return_sequences=True)(inputs)
h = layers.RNN([MinimalCell(3), MinimalCell(2)])(h)
model = keras.Model(inputs, layers.Dense(1)(h))
model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")


def run():
    history = model.fit(x, y, batch_size=3, epochs=2, shuffle=False, verbose=0)
    return history.history
