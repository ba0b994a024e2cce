"""Several cells of one's own in one `RNN`, a state returned, and a sequence read backwards."""

import keras
import numpy as np
from keras import layers, ops


class Cell(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, self.units), name="recurrent")

    def call(self, x, states):
        h = ops.tanh(ops.matmul(x, self.kernel) + ops.matmul(states[0], self.recurrent))
        return h, [h]


inputs = keras.Input((5, 6))
x = layers.RNN([Cell(4), Cell(3)], return_sequences=True)(inputs)
model = keras.Model(inputs, layers.RNN(Cell(2), return_state=True, go_backwards=True)(x))
X = np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32")


def run():
    outputs, state = model.predict(X, verbose=0)
    return outputs, state, [tuple(w.shape) for w in model.weights], model.count_params()
