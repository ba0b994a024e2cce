"""Transfer: a frozen model inside, trained on top of, then looked into through `get_layer`."""

import keras
import numpy as np
from keras import layers

base = keras.Sequential(
    [keras.Input((6,)), layers.Dense(4, activation="relu", name="first"), layers.Dense(3)],
    name="base",
)
base.trainable = False
inputs = keras.Input((6,))
model = keras.Model(inputs, layers.Dense(1, name="head")(base(inputs, training=False)))
X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")


def run():
    counts = [len(model.trainable_weights)]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    first = model.fit(X, X[:, :1], batch_size=8, shuffle=False, verbose=0)
    inner = model.get_layer("base")
    inner.trainable = True
    inner.get_layer("first").trainable = False
    counts.append(len(model.trainable_weights))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    second = model.fit(X, X[:, :1], batch_size=8, shuffle=False, verbose=0)
    kinds = [isinstance(layer, keras.Model) for layer in model.layers]
    features = keras.Model(inner.inputs, inner.get_layer("first").output)
    names = [layer.name for layer in inner.layers][:1]
    return counts, first.history, second.history, kinds, names, features.predict(X, verbose=0)
