"""An optimizer of one's own: build makes its variables, update_step changes one weight."""

import keras
import numpy as np
from keras import layers, ops


class HeavyBall(keras.optimizers.Optimizer):
    def __init__(self, learning_rate=0.01, friction=0.1, name="heavy_ball", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.friction = friction

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.speeds = [
            self.add_variable_from_reference(reference_variable=v, name="speed") for v in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype)
        speed = self.speeds[self._get_variable_index(variable)]
        self.assign(speed, (1.0 - self.friction) * speed - rate * gradient)
        self.assign_add(variable, speed)

    def get_config(self):
        return {**super().get_config(), "friction": self.friction}


rng = np.random.default_rng(0)
x = rng.normal(size=(8, 3)).astype("float32")
y = rng.normal(size=(8, 1)).astype("float32")

model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(1)])
model.compile(optimizer=HeavyBall(0.05, friction=0.2), loss="mse")


def run():
    history = model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
    return {
        "losses": history.history["loss"],
        "iterations": int(model.optimizer.iterations),
        "friction": model.optimizer.get_config()["friction"],
    }
