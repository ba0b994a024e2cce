"""compute_loss and compute_metrics overridden: a loss that needs the inputs, a metric more."""

import keras
import numpy as np
from keras import layers, ops


class Conserving(keras.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.drift = keras.metrics.Mean(name="drift")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight)
        return loss + 0.1 * ops.mean(self.difference(x, y_pred))

    def difference(self, x, y_pred):
        return ops.square(ops.sum(x, axis=-1) - ops.sum(y_pred, axis=-1))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        results = super().compute_metrics(x, y, y_pred, sample_weight)
        self.drift.update_state(self.difference(x, y_pred))
        results["drift"] = self.drift.result()
        return results


rng = np.random.default_rng(0)
x = rng.normal(size=(12, 4)).astype("float32")
y = rng.normal(size=(12, 2)).astype("float32")

inputs = keras.Input((4,))
outputs = layers.Dense(2)(layers.Dense(5, activation="relu")(inputs))
model = Conserving(inputs, outputs)
model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse", metrics=["mae"])


def run():
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return {
        "history": history.history,
        "evaluated": model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True),
    }
