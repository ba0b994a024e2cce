"""A functional model as a class: super().__init__(inputs=..., outputs=...) and a call more."""

import keras
import numpy as np
from keras import layers


class Perceptron(keras.Model):
    def __init__(self, features, width=4, **kwargs):
        inputs = keras.Input((features,), name="features")
        hidden = layers.Dense(width, activation="relu", name="hidden")(inputs)
        outputs = layers.Dense(2, name="scores")(hidden)
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.width = width

    def call(self, inputs, training=None, mask=None):
        return 2.0 * super().call(inputs, training=training, mask=mask)

    def best(self, x):
        return np.argmax(self.predict(x, verbose=0), axis=-1)


class Stack(keras.Sequential):
    def __init__(self, *sizes):
        super().__init__(name="stack")
        for size in sizes:
            self.add(layers.Dense(size, activation="tanh"))


rng = np.random.default_rng(0)
x = rng.normal(size=(8, 3)).astype("float32")
y = rng.normal(size=(8, 2)).astype("float32")

model = Perceptron(3, name="perceptron")
model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
stack = Stack(4, 2)
stack.build((None, 3))
models = [model, stack]


def run():
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    inner = keras.Model(model.inputs, model.get_layer("hidden").output)
    return {
        "losses": history.history["loss"],
        "outputs": model.predict(x, verbose=0),
        "inner": inner.predict(x, verbose=0),
        "best": model.best(x),
        "stack": stack.predict(x, verbose=0),
        "width": model.width,
    }
