"""Layers called on arrays: weights at the first call, read, set, frozen and regularized."""

import numpy as np
from keras import layers, ops

rng = np.random.default_rng(0)
x = rng.normal(size=(4, 3)).astype("float32")
image = rng.normal(size=(2, 6, 6, 2)).astype("float32")

dense = layers.Dense(5, activation="relu", kernel_regularizer="l2")
built_before = dense.built
dense(x)
conv = layers.Conv2D(3, 3)
conv.build((None, 6, 6, 2))
norm = layers.BatchNormalization()
norm(x)
lstm = layers.LSTM(4, return_state=True)
lstm(x[:, None])
models = [dense, conv, norm, lstm]


def run():
    outputs, h, c = lstm(ops.stack([x, x], axis=1))
    updated = norm(x, training=True)
    dense.trainable = False
    frozen = len(dense.trainable_weights)
    dense.trainable = True
    return {
        "built": [built_before, dense.built],
        "dense": np.asarray(dense(x)),
        "kernel": np.asarray(dense.kernel),
        "losses": [float(loss) for loss in dense.losses],
        "frozen": frozen,
        "weights": [v.name for v in dense.weights],
        "conv": np.asarray(conv(image)),
        "lstm": [np.asarray(outputs), np.asarray(h), np.asarray(c)],
        "norm": np.asarray(updated),
        "moving": [np.asarray(norm.moving_mean), np.asarray(norm(x))],
        "softmax": np.asarray(layers.Softmax()(x)),
        "merged": np.asarray(layers.Concatenate()([x, dense(x)])),
    }
