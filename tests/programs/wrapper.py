"""Wrappers: a layer around another one, by Wrapper and by a plain attribute."""

import keras
import numpy as np
from keras import layers, ops


class Residual(layers.Wrapper):
    def call(self, inputs):
        return inputs + self.layer(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape


class SpectralScale(layers.Layer):
    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.inner = layer

    def build(self, input_shape):
        if not self.inner.built:
            self.inner.build(input_shape)
        super().build(input_shape)

    def call(self, inputs):
        norm = ops.sqrt(ops.sum(ops.square(self.inner.kernel)))
        return self.inner(inputs) / norm


rng = np.random.default_rng(0)
x = rng.normal(size=(6, 4)).astype("float32")
y = rng.normal(size=(6, 2)).astype("float32")
steps = rng.normal(size=(6, 3, 4)).astype("float32")

inputs = keras.Input((4,))
h = Residual(layers.Dense(4, activation="tanh"))(inputs)
model = keras.Model(inputs, SpectralScale(layers.Dense(2))(h))
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
by_step = keras.Sequential(
    [
        keras.Input((3, 4)),
        layers.TimeDistributed(Residual(layers.Dense(4))),
        layers.Bidirectional(layers.GRU(2)),
    ]
)
models = [model, by_step]


def run():
    history = model.fit(x, y, batch_size=3, epochs=2, shuffle=False, verbose=0)
    return {
        "losses": history.history["loss"],
        "outputs": model.predict(x, verbose=0),
        "by_step": by_step.predict(steps, verbose=0),
    }
