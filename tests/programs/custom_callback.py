"""Callbacks of one's own: what they see, a changed learning rate, an early end."""

import keras
import numpy as np
from keras import layers


class Watch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.events = []
        self.weights_seen = []

    def on_train_begin(self, logs=None):
        self.events.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.events.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.events.append(f"batch {batch} {sorted(logs)}")

    def on_epoch_end(self, epoch, logs=None):
        self.weights_seen.append(self.model.get_weights()[0].copy())
        rate = self.model.optimizer.learning_rate
        self.model.optimizer.learning_rate = float(rate) * 0.5
        if epoch == 2:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self.events.append(f"end {sorted(logs)}")

    def on_test_batch_end(self, batch, logs=None):
        self.events.append(f"test {batch}")

    def on_predict_end(self, logs=None):
        self.events.append("predicted")


rng = np.random.default_rng(0)
x = rng.normal(size=(8, 3)).astype("float32")
y = rng.normal(size=(8, 1)).astype("float32")

model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
model.compile(optimizer=keras.optimizers.SGD(0.2), loss="mse", metrics=["mae"])


def run():
    watch = Watch()
    history = model.fit(x, y, batch_size=4, epochs=9, shuffle=False, verbose=0, callbacks=[watch])
    model.evaluate(x, y, batch_size=4, verbose=0, callbacks=[watch])
    model.predict(x, verbose=0, callbacks=[watch])
    return {
        "history": history.history,
        "epochs": history.epoch,
        "events": watch.events,
        "weights": watch.weights_seen,
        "rate": float(model.optimizer.learning_rate),
        "params": {name: history.params[name] for name in ("epochs", "steps")},
    }
