"""Warm-up of the learning rate: a callback by the batch, and a schedule of one's own."""

import keras
import numpy as np
from keras import layers, ops


class WarmUp(keras.callbacks.Callback):
    def __init__(self, target, steps):
        super().__init__()
        self.target = target
        self.steps = steps
        self.step = 0
        self.rates = []

    def on_train_batch_begin(self, batch, logs=None):
        self.step += 1
        rate = self.target * min(1.0, self.step / self.steps)
        self.model.optimizer.learning_rate.assign(rate)

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, peak, warm_steps, total_steps):
        self.peak = peak
        self.warm_steps = warm_steps
        self.total_steps = total_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        warm = self.peak * (step + 1.0) / self.warm_steps
        part = (step - self.warm_steps) / (self.total_steps - self.warm_steps)
        cold = 0.5 * self.peak * (1.0 + ops.cos(np.pi * ops.clip(part, 0.0, 1.0)))
        return ops.where(step < self.warm_steps, warm, cold)

    def get_config(self):
        return {
            "peak": self.peak,
            "warm_steps": self.warm_steps,
            "total_steps": self.total_steps,
        }


def make_model(rate):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, activation="relu"), layers.Dense(1)]
    )
    model.compile(optimizer=keras.optimizers.SGD(rate), loss="mse")
    return model


rng = np.random.default_rng(0)
x = rng.normal(size=(16, 4)).astype("float32")
y = rng.normal(size=(16, 1)).astype("float32")

model = make_model(0.1)
scheduled = make_model(WarmUpCosine(0.1, 3, 8))
models = [model, scheduled]


def run():
    warm_up = WarmUp(0.1, steps=5)
    given = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    history = model.fit(x, y, callbacks=[warm_up], **given)
    other = scheduled.fit(x, y, **given)
    schedule = WarmUpCosine(0.1, 3, 8)
    return {
        "losses": history.history["loss"],
        "rates": np.array(warm_up.rates),
        "of_schedule": other.history["loss"],
        "rate_now": float(scheduled.optimizer.learning_rate),
        "schedule": np.array([float(schedule(step)) for step in range(9)]),
    }
