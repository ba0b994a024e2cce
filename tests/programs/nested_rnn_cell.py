"""A custom RNN cell of two inputs and two states, and one around a built-in cell."""

import keras
import numpy as np
from keras import layers, ops


class NestedCell(layers.Layer):
    def __init__(self, first, second, **kwargs):
        super().__init__(**kwargs)
        self.first = first
        self.second = second
        self.state_size = [first, second]
        self.output_size = first + second

    def build(self, input_shape):
        features = input_shape[-1]
        self.to_first = self.add_weight(
            shape=(features, self.first), initializer="glorot_uniform", name="to_first"
        )
        self.to_second = self.add_weight(
            shape=(self.first, self.second), initializer="uniform", name="to_second"
        )
        self.decay = self.add_weight(shape=(self.second,), initializer="ones", name="decay")

    def call(self, inputs, states):
        s1, s2 = states
        s1 = ops.tanh(ops.matmul(inputs, self.to_first) + 0.5 * s1)
        s2 = ops.matmul(s1, self.to_second) + ops.sigmoid(self.decay) * s2
        return ops.concatenate([s1, s2], axis=-1), [s1, s2]

    def get_config(self):
        return {**super().get_config(), "first": self.first, "second": self.second}


class ResidualGRUCell(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.cell = layers.GRUCell(units)
        self.state_size = units

    def build(self, input_shape):
        self.cell.build(input_shape)

    def call(self, inputs, states, training=None):
        outputs, states = self.cell(inputs, states, training=training)
        return outputs + inputs, states

    def get_initial_state(self, batch_size=None):
        return [ops.ones((batch_size, self.state_size)) * 0.1]


inputs = keras.Input((4, 3))
x = layers.RNN(NestedCell(3, 2), return_sequences=True)(inputs)
x = layers.RNN(ResidualGRUCell(5), return_sequences=True, go_backwards=True)(x)
outputs, last = layers.RNN(layers.SimpleRNNCell(4), return_state=True)(x)
model = keras.Model(inputs, layers.Dense(1)(layers.Add()([outputs, last])))
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")

rng = np.random.default_rng(0)
x_train = rng.normal(size=(6, 4, 3)).astype("float32")
y_train = rng.normal(size=(6, 1)).astype("float32")


def run():
    history = model.fit(x_train, y_train, batch_size=3, epochs=2, shuffle=False, verbose=0)
    return {
        "losses": history.history["loss"],
        "config": NestedCell(3, 2, name="cell").get_config()["second"],
    }
