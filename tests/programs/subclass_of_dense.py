"""A subclass of Dense: super().build and super().call, with a weight more."""

import keras
import numpy as np
from keras import layers


class ScaledDense(layers.Dense):
    def __init__(self, units, start=0.5, **kwargs):
        super().__init__(units, **kwargs)
        self.start = start

    def build(self, input_shape):
        super().build(input_shape)
        self.scale = self.add_weight(
            shape=(self.units,),
            initializer=keras.initializers.Constant(self.start),
            name="scale",
        )

    def call(self, inputs):
        return self.scale * super().call(inputs)


class Centered(layers.Conv1D):
    def call(self, inputs):
        y = super().call(inputs)
        return y - keras.ops.mean(y, axis=1, keepdims=True)


rng = np.random.default_rng(0)
x = rng.normal(size=(8, 5, 3)).astype("float32")
y = rng.normal(size=(8, 2)).astype("float32")

model = keras.Sequential(
    [
        keras.Input((5, 3)),
        Centered(4, 3, padding="same", activation="relu"),
        layers.Flatten(),
        ScaledDense(6, start=0.8, activation="tanh", kernel_regularizer="l2"),
        ScaledDense(2, use_bias=False),
    ]
)
model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")


def run():
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return {
        "losses": history.history["loss"],
        "outputs": model.predict(x, verbose=0),
        "weights": [tuple(weight.shape) for weight in model.weights],
    }
