"""A training loop by hand: stateless_call, stateless_apply and metrics, in one jitted step."""

import jax
import keras
import numpy as np
from keras import layers

rng = np.random.default_rng(0)
x = rng.normal(size=(16, 4)).astype("float32")
y = rng.integers(0, 3, size=16)

model = keras.Sequential(
    [
        keras.Input((4,)),
        layers.Dense(6, activation="relu"),
        layers.BatchNormalization(),
        layers.Dense(3),
    ]
)
optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
optimizer.build(model.trainable_variables)
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
accuracy = keras.metrics.SparseCategoricalAccuracy()


def compute_loss_and_updates(trainable, non_trainable, metrics, x, y):
    y_pred, non_trainable = model.stateless_call(trainable, non_trainable, x, training=True)
    metrics = accuracy.stateless_update_state(metrics, y, y_pred)
    return loss_fn(y, y_pred), (non_trainable, metrics)


grad_fn = jax.value_and_grad(compute_loss_and_updates, has_aux=True)


@jax.jit
def train_step(state, x, y):
    trainable, non_trainable, optimizer_variables, metrics = state
    (loss, (non_trainable, metrics)), grads = grad_fn(trainable, non_trainable, metrics, x, y)
    trainable, optimizer_variables = optimizer.stateless_apply(
        optimizer_variables, grads, trainable
    )
    return loss, (trainable, non_trainable, optimizer_variables, metrics)


def run():
    state = (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
        [v.value for v in optimizer.variables],
        [v.value for v in accuracy.variables],
    )
    losses = []
    for _ in range(2):
        for start in range(0, 16, 8):
            batch = slice(start, start + 8)
            loss, state = train_step(state, x[batch], y[batch])
            losses.append(float(loss))
    trainable, non_trainable, optimizer_variables, metrics = state
    for variable, value in zip(model.trainable_variables, trainable):
        variable.assign(value)
    for variable, value in zip(model.non_trainable_variables, non_trainable):
        variable.assign(value)
    for variable, value in zip(optimizer.variables, optimizer_variables):
        variable.assign(value)
    return {
        "losses": losses,
        "accuracy": float(accuracy.stateless_result(metrics)),
        "outputs": model.predict(x, verbose=0),
        "iterations": int(optimizer.iterations),
    }
