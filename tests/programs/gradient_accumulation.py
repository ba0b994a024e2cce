"""Gradient accumulation: by the optimizer's argument, and by hand over small batches."""

import jax
import keras
import numpy as np
from keras import layers, ops

rng = np.random.default_rng(0)
x = rng.normal(size=(24, 4)).astype("float32")
y = rng.normal(size=(24, 1)).astype("float32")


def make_model():
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, activation="tanh"), layers.Dense(1)]
    )


model = make_model()
model.compile(
    optimizer=keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=3),
    loss="mse",
)
by_hand = make_model()
models = [model, by_hand]
loss_fn = keras.losses.MeanSquaredError()


def loss_of(trainable, non_trainable, x, y):
    y_pred, _ = by_hand.stateless_call(trainable, non_trainable, x)
    return loss_fn(y, y_pred)


def train_by_hand(optimizer, size, every):
    trainable = [v.value for v in by_hand.trainable_variables]
    non_trainable = [v.value for v in by_hand.non_trainable_variables]
    optimizer_variables = [v.value for v in optimizer.variables]
    step = jax.jit(jax.value_and_grad(loss_of))
    total = [ops.zeros_like(v) for v in trainable]
    losses = []
    for number, start in enumerate(range(0, len(x), size), 1):
        batch = slice(start, start + size)
        loss, grads = step(trainable, non_trainable, x[batch], y[batch])
        losses.append(float(loss))
        total = [a + g / every for a, g in zip(total, grads)]
        if number % every == 0:
            trainable, optimizer_variables = optimizer.stateless_apply(
                optimizer_variables, total, trainable
            )
            total = [ops.zeros_like(v) for v in trainable]
    for variable, value in zip(by_hand.trainable_variables, trainable):
        variable.assign(value)
    return losses


def run():
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    optimizer.build(by_hand.trainable_variables)
    return {
        "losses": history.history["loss"],
        "by_hand": train_by_hand(optimizer, size=4, every=3),
    }
