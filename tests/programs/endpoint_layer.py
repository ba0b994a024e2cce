"""An endpoint layer: it takes the targets as an input, adds the loss, returns predictions."""

import keras
import numpy as np
from keras import layers, ops


class LogisticEndpoint(layers.Layer):
    def __init__(self, name=None):
        super().__init__(name=name)
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    def call(self, logits, targets=None, sample_weight=None):
        if targets is not None:
            self.add_loss(self.loss_fn(targets, logits, sample_weight))
        return ops.sigmoid(logits)


rng = np.random.default_rng(0)
data = {
    "inputs": rng.normal(size=(12, 3)).astype("float32"),
    "targets": rng.integers(0, 2, size=(12, 1)).astype("float32"),
    "weights": rng.uniform(size=(12, 1)).astype("float32"),
}

inputs = keras.Input(shape=(3,), name="inputs")
targets = keras.Input(shape=(1,), name="targets")
weights = keras.Input(shape=(1,), name="weights")
logits = layers.Dense(1, name="logits")(layers.Dense(4, activation="relu")(inputs))
endpoint = LogisticEndpoint(name="predictions")
predictions = endpoint(logits, targets, sample_weight=weights)
model = keras.Model(inputs=[inputs, targets, weights], outputs=predictions)
model.compile(optimizer=keras.optimizers.SGD(0.1))
plain = keras.Model(inputs, LogisticEndpoint(name="alone")(logits))


def run():
    history = model.fit(data, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return {
        "losses": history.history["loss"],
        "evaluated": model.evaluate(data, batch_size=4, verbose=0),
        "predictions": model.predict(data, verbose=0),
        "plain": plain.predict(data["inputs"], verbose=0),
    }
