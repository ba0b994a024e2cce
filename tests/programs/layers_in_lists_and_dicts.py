"""Layers in lists and dicts: a tower of equal blocks and heads by name."""

import keras
import numpy as np
from keras import layers


class Tower(layers.Layer):
    def __init__(self, depth, width, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(width, activation="relu") for _ in range(depth)]
        self.heads = {
            "mean": layers.Dense(2),
            "spread": layers.Dense(2, activation="softplus"),
        }
        self.norms = []

    def build(self, input_shape):
        for _ in self.blocks:
            self.norms.append(layers.LayerNormalization())
        super().build(input_shape)

    def call(self, inputs):
        x = inputs
        for block, norm in zip(self.blocks, self.norms):
            x = norm(block(x))
        return {name: head(x) for name, head in self.heads.items()}


rng = np.random.default_rng(0)
x = rng.normal(size=(8, 5)).astype("float32")

inputs = keras.Input((5,))
model = keras.Model(inputs, Tower(2, 4)(inputs))
model.compile(optimizer=keras.optimizers.SGD(0.05), loss={"mean": "mse", "spread": "mae"})
targets = {
    "mean": rng.normal(size=(8, 2)).astype("float32"),
    "spread": rng.uniform(size=(8, 2)).astype("float32"),
}


def run():
    history = model.fit(x, targets, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return {
        "outputs": model.predict(x, verbose=0),
        "loss": history.history["loss"],
        "weights": len(model.weights),
    }
