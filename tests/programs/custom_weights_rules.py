"""Initializers, regularizers and constraints as classes and functions of one's own."""

import keras
import numpy as np
from keras import layers, ops


class Ramp(keras.initializers.Initializer):
    def __init__(self, step=0.1):
        self.step = step

    def __call__(self, shape, dtype=None):
        size = int(np.prod(shape))
        return ops.reshape(ops.cast(ops.arange(size), dtype) * self.step, shape)

    def get_config(self):
        return {"step": self.step}


class Pull(keras.regularizers.Regularizer):
    def __init__(self, strength, towards):
        self.strength = strength
        self.towards = towards

    def __call__(self, x):
        return self.strength * ops.sum(ops.square(x - self.towards))

    def get_config(self):
        return {"strength": self.strength, "towards": self.towards}


class Between(keras.constraints.Constraint):
    def __init__(self, low, high):
        self.low = low
        self.high = high

    def __call__(self, w):
        return ops.clip(w, self.low, self.high)

    def get_config(self):
        return {"low": self.low, "high": self.high}


def first_norm(w):
    return 0.01 * ops.sum(ops.abs(w))


rng = np.random.default_rng(0)
x = rng.normal(size=(8, 3)).astype("float32")
y = rng.normal(size=(8, 2)).astype("float32")

model = keras.Sequential(
    [
        keras.Input((3,)),
        layers.Dense(
            4,
            activation="tanh",
            kernel_initializer=Ramp(0.05),
            kernel_regularizer=Pull(0.1, towards=0.2),
            kernel_constraint=Between(-0.3, 0.3),
        ),
        layers.Dense(2, kernel_initializer=Ramp(), bias_regularizer=first_norm),
    ]
)
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")


def run():
    made = [np.array(weight) for weight in model.get_weights()]
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return {
        "made": made,
        "losses": history.history["loss"],
        "largest": float(np.abs(model.get_weights()[0]).max()),
        "regularizer": Pull.from_config(Pull(0.1, 0.2).get_config()).get_config(),
    }
