"""get_config and from_config, with a model saved and loaded that has layers of one's own."""

import os
import tempfile

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable(package="Programs")
class Power(layers.Layer):
    def __init__(self, exponent=2.0, units=3, **kwargs):
        super().__init__(**kwargs)
        self.exponent = exponent
        self.units = units
        self.dense = layers.Dense(units)

    def call(self, inputs):
        return ops.power(ops.abs(self.dense(inputs)), self.exponent)

    def get_config(self):
        config = super().get_config()
        config.update({"exponent": self.exponent, "units": self.units})
        return config


@keras.saving.register_keras_serializable(package="Programs", name="half")
def halved(x):
    return 0.5 * x


rng = np.random.default_rng(0)
x = rng.normal(size=(6, 4)).astype("float32")
y = rng.normal(size=(6, 1)).astype("float32")

inputs = keras.Input((4,))
h = Power(1.5, units=5, name="power")(inputs)
outputs = layers.Dense(1, activation=halved)(h)
model = keras.Model(inputs, outputs)
model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")


def run():
    model.fit(x, y, batch_size=3, epochs=1, shuffle=False, verbose=0)
    config = model.get_layer("power").get_config()
    same = Power.from_config(config)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        loaded = keras.saving.load_model(path)
        weights = os.path.join(folder, "model.weights.h5")
        model.save_weights(weights)
        again = keras.Model.from_config(model.get_config())
        again.load_weights(weights)
    history = loaded.fit(x, y, batch_size=3, epochs=1, shuffle=False, verbose=0)
    return {
        "config": [config["exponent"], config["units"], config["name"]],
        "same": [same.exponent, same.units, same.name],
        "from_config": again.predict(x, verbose=0),
        "further": history.history["loss"],
        "loaded": loaded.predict(x, verbose=0),
    }
