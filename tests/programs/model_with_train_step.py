"""A model with a train_step of its own, in Keras's form for JAX, with metrics of its own."""

import jax
import keras
import numpy as np
from keras import layers


class Custom(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(6, activation="tanh")
        self.norm = layers.BatchNormalization(momentum=0.9)
        self.last = layers.Dense(1)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.mae = keras.metrics.MeanAbsoluteError(name="mae")

    def call(self, inputs, training=None):
        return self.last(self.norm(self.hidden(inputs), training=training))

    def loss_and_updates(self, trainable, non_trainable, x, y, training):
        y_pred, non_trainable = self.stateless_call(trainable, non_trainable, x, training=training)
        return self.compute_loss(x, y, y_pred), (y_pred, non_trainable)

    def updated(self, metrics_variables, loss, y, y_pred):
        size = len(self.loss_tracker.variables)
        of_loss = self.loss_tracker.stateless_update_state(metrics_variables[:size], loss)
        of_mae = self.mae.stateless_update_state(metrics_variables[size:], y, y_pred)
        logs = {
            "loss": self.loss_tracker.stateless_result(of_loss),
            "mae": self.mae.stateless_result(of_mae),
        }
        return logs, [*of_loss, *of_mae]

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        x, y = data
        gradient = jax.value_and_grad(self.loss_and_updates, has_aux=True)
        (loss, (y_pred, non_trainable)), grads = gradient(trainable, non_trainable, x, y, True)
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, grads, trainable
        )
        logs, metrics_variables = self.updated(metrics_variables, loss, y, y_pred)
        return logs, (trainable, non_trainable, optimizer_variables, metrics_variables)

    def test_step(self, state, data):
        trainable, non_trainable, metrics_variables = state
        x, y = data
        loss, (y_pred, _) = self.loss_and_updates(trainable, non_trainable, x, y, False)
        logs, metrics_variables = self.updated(metrics_variables, loss, y, y_pred)
        return logs, (trainable, non_trainable, metrics_variables)

    @property
    def metrics(self):
        return [self.loss_tracker, self.mae]


rng = np.random.default_rng(0)
x = rng.normal(size=(12, 4)).astype("float32")
y = rng.normal(size=(12, 1)).astype("float32")

model = Custom()
model(x)
model.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.9), loss="mse")


def run():
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return {
        "history": history.history,
        "evaluated": model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True),
    }
