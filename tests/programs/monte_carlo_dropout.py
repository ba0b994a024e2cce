"""Monte Carlo dropout: many calls with training=True, and what they have in common."""

import keras
import numpy as np
from keras import layers, ops

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(3, 8)).astype("float32")

inputs = keras.Input((8,))
h = layers.Dense(64, activation="relu")(inputs)
h = layers.Dropout(0.5)(h)
model = keras.Model(inputs, layers.Dense(1)(h))

always = keras.Model(inputs, layers.Dropout(0.5)(inputs, training=True))


def run():
    plain = np.asarray(model(x, training=False))
    draws = np.stack([np.asarray(model(x, training=True)) for _ in range(200)])
    dropped = np.asarray(always(x))
    kept = np.isclose(dropped, 2 * x) | np.isclose(dropped, 0.0)
    spread = draws.std(axis=0)
    error = np.abs(draws.mean(axis=0) - plain)
    return {
        "inference": plain,
        "twice": np.asarray(model(x)) == plain,
        "draws_differ": bool((spread > 0).all()),
        "mean_is_near": bool((error < 5 * spread / np.sqrt(200)).all()),
        "always_drops": bool(kept.all()) and float(ops.sum(dropped == 0.0)) > 0,
    }
