"""The argument `training`: a layer that adds a given disturbance in training only."""

import keras
import numpy as np
from keras import layers


class Disturb(layers.Layer):
    def __init__(self, amount, **kwargs):
        super().__init__(**kwargs)
        self.amount = amount
        self.norm = layers.BatchNormalization(momentum=0.5)

    def call(self, inputs, training=None):
        x = self.norm(inputs, training=training)
        if training:
            return x + self.amount
        return x


rng = np.random.default_rng(0)
x = rng.normal(loc=2.0, size=(16, 4)).astype("float32")
y = rng.normal(size=(16, 1)).astype("float32")

inputs = keras.Input((4,))
disturb = Disturb(0.5)
model = keras.Model(inputs, layers.Dense(1)(disturb(inputs)))
model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")


def run():
    history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return {
        "losses": history.history["loss"],
        "evaluated": model.evaluate(x, y, batch_size=8, verbose=0),
        "inference": np.asarray(model(x)),
        "as_in_training": np.asarray(model(x, training=True)),
        "layer_alone": np.asarray(disturb(x, training=False)),
        "moving_mean": np.asarray(disturb.norm.moving_mean),
    }
