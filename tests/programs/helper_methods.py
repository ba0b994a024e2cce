"""An outer model that calls methods, layers and models of a model inside, not the model itself."""

import keras
import numpy as np
from keras import layers, ops


class Coder(keras.Model):
    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential([layers.Dense(3, activation="relu"), layers.Dense(2)])
        self.decoder = layers.Dense(4)
        self.norm = layers.BatchNormalization()

    def encode(self, x, training=None):
        return self.norm(self.encoder(x), training=training)

    def decode(self, z):
        return self.decoder(z)

    def call(self, x):
        return self.decode(self.encode(x))


class Outer(keras.Model):
    def __init__(self):
        super().__init__()
        self.coder = Coder()
        self.other = layers.Dense(4)
        self.head = layers.Dense(1)

    def call(self, x, training=None):
        z = self.coder.encode(x, training=training)
        self.add_loss(0.1 * ops.mean(ops.square(self.coder.decode(z) - x)))
        both = [self.other(self.coder.decoder(z)), self.coder.encoder(x)]
        return self.head(ops.concatenate(both, -1))


X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
model = Outer()
model(X)


def run():
    model.compile(keras.optimizers.SGD(0.05), "mse")
    history = model.fit(X, X[:, :1], epochs=2, batch_size=4, shuffle=False, verbose=0)
    codes = ops.convert_to_numpy(model.coder.encode(X))
    shapes = [tuple(weight.shape) for weight in model.coder.weights]
    return history.history, model.predict(X, verbose=0), codes, shapes
