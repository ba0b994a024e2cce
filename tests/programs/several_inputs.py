"""Several inputs of `call`: positional and keyword arrays, and a plain option."""

import keras
import numpy as np
from keras import layers, ops


class GatedMix(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.left = layers.Dense(units)
        self.right = layers.Dense(units)
        self.gate = layers.Dense(units, activation="sigmoid")

    def call(self, a, b, context=None, sharpness=1.0):
        gate = self.gate(a if context is None else ops.concatenate([a, context], -1))
        gate = gate**sharpness
        return gate * self.left(a) + (1.0 - gate) * self.right(b)


rng = np.random.default_rng(0)
a, b, c = (rng.normal(size=(6, n)).astype("float32") for n in (3, 4, 2))

first, second, third = keras.Input((3,)), keras.Input((4,)), keras.Input((2,))
mixed = GatedMix(5)(first, second, context=third, sharpness=2.0)
again = GatedMix(2)(mixed, b=second)
model = keras.Model([first, second, third], again)
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
y = rng.normal(size=(6, 2)).astype("float32")


def run():
    before = model.predict([a, b, c], verbose=0)
    history = model.fit([a, b, c], y, batch_size=3, epochs=2, shuffle=False, verbose=0)
    return {"before": before, "losses": history.history["loss"]}
