"""A vector-quantized autoencoder: a codebook, gradients straight through, its codes afterwards."""

import keras
import numpy as np
from keras import layers, ops


class Quantizer(layers.Layer):
    def __init__(self, codes, width, beta=0.25, **kwargs):
        super().__init__(**kwargs)
        self.width, self.codes, self.beta = width, codes, beta
        self.book = self.add_weight(shape=(width, codes), initializer="uniform", name="book")

    def call(self, x):
        flat = ops.reshape(x, [-1, self.width])
        one_hot = ops.one_hot(self.nearest(flat), self.codes)
        found = ops.reshape(ops.matmul(one_hot, ops.transpose(self.book)), ops.shape(x))
        commitment = ops.mean((ops.stop_gradient(found) - x) ** 2)
        self.add_loss(self.beta * commitment + ops.mean((found - ops.stop_gradient(x)) ** 2))
        return x + ops.stop_gradient(found - x)

    def nearest(self, flat):
        products = ops.matmul(flat, self.book)
        squares = ops.sum(flat**2, axis=1, keepdims=True) + ops.sum(self.book**2, axis=0)
        return ops.argmin(squares - 2 * products, axis=1)


X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
encoder = keras.Sequential([keras.Input((6,)), layers.Dense(3)], name="encoder")
decoder = keras.Sequential([keras.Input((3,)), layers.Dense(6)], name="decoder")
inputs = keras.Input((6,))
model = keras.Model(inputs, decoder(Quantizer(5, 3, name="quantizer")(encoder(inputs))))


def run():
    model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(X, X, batch_size=8, epochs=2, shuffle=False, verbose=0)
    quantizer = model.get_layer("quantizer")
    codes = quantizer.nearest(model.get_layer("encoder").predict(X, verbose=0))
    return history.history, np.asarray(codes), np.asarray(quantizer.book)
