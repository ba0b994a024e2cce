"""Weights made in __init__: a scaling and shifting of features, used without `build`."""

import keras
import numpy as np
from keras import layers


class ScaleAndShift(layers.Layer):
    def __init__(self, features):
        super().__init__()
        self.scale = self.add_weight(shape=(features,), initializer="ones")
        self.shift = self.add_weight(shape=(features,), initializer="zeros")
        self.calls = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False, name="calls"
        )

    def call(self, x):
        return x * self.scale + self.shift


rng = np.random.default_rng(0)
x = rng.normal(size=(12, 3)).astype("float32")
y = (2.0 * x - 1.0).astype("float32")

layer = ScaleAndShift(3)
created_at_once = len(layer.weights)
model = keras.Sequential([keras.Input((3,)), layer, layers.Dense(3)])
model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mae")


def run():
    history = model.fit(x, y, batch_size=6, epochs=2, shuffle=False, verbose=0)
    return {
        "created_at_once": created_at_once,
        "trainable": len(layer.trainable_weights),
        "fixed": len(layer.non_trainable_weights),
        "losses": history.history["loss"],
        "scale": ops_array(layer.scale),
        "outputs": model.predict(x, verbose=0),
    }


def ops_array(variable):
    return keras.ops.convert_to_numpy(variable)
