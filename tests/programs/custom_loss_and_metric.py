"""Losses and metrics of one's own: classes with call and update_state, and functions."""

import keras
import numpy as np
from keras import layers, ops


class Weighted(keras.losses.Loss):
    def __init__(self, over=2.0, name="weighted", **kwargs):
        super().__init__(name=name, **kwargs)
        self.over = over

    def call(self, y_true, y_pred):
        error = y_true - y_pred
        cost = ops.where(error > 0, error, -self.over * error)
        return ops.mean(cost, axis=-1)

    def get_config(self):
        return {**super().get_config(), "over": self.over}


class Positives(keras.metrics.Metric):
    def __init__(self, name="positives", **kwargs):
        super().__init__(name=name, **kwargs)
        self.found = self.add_variable(shape=(), initializer="zeros", name="found")
        self.seen = self.add_weight(shape=(), initializer="zeros", name="seen")

    def update_state(self, y_true, y_pred, sample_weight=None):
        hits = ops.cast(ops.logical_and(y_true > 0, y_pred > 0), "float32")
        if sample_weight is not None:
            hits = hits * ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        self.found.assign_add(ops.sum(hits))
        self.seen.assign(self.seen + ops.sum(ops.cast(y_true > 0, "float32")))

    def result(self):
        return self.found / ops.maximum(self.seen, 1.0)

    def reset_state(self):
        self.found.assign(0.0)
        self.seen.assign(0.0)


def worst(y_true, y_pred):
    return ops.max(ops.abs(y_true - y_pred), axis=-1)


rng = np.random.default_rng(0)
x = rng.normal(size=(12, 4)).astype("float32")
y = rng.normal(size=(12, 1)).astype("float32")
importance = rng.uniform(size=12).astype("float32")

model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu"), layers.Dense(1)])
model.compile(
    optimizer=keras.optimizers.SGD(0.1),
    loss=Weighted(3.0),
    metrics=[Positives(), worst],
    weighted_metrics=[Positives(name="weighted_positives")],
)


def run():
    history = model.fit(
        x,
        y,
        sample_weight=importance,
        batch_size=4,
        epochs=2,
        shuffle=False,
        validation_data=(x[:4], y[:4]),
        verbose=0,
    )
    metric = Positives()
    metric.update_state(y, y - 0.1)
    first = float(metric.result())
    metric.reset_state()
    return {
        "history": history.history,
        "evaluated": model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True),
        "alone": float(Weighted()(y, y + 1.0)),
        "metric": [first, float(metric.result())],
    }
