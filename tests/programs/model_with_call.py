"""A model with call: layers as attributes, an option of the call, a summary of its parts."""

import os
import tempfile

import keras
import numpy as np
from keras import layers, ops


class Classifier(keras.Model):
    def __init__(self, classes, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(8, activation="relu")
        self.norm = layers.BatchNormalization()
        self.dropout = layers.Dropout(dropout)
        self.last = layers.Dense(classes, activation="softmax")

    def features(self, x, training=None):
        x = self.norm(self.first(x), training=training)
        return self.dropout(x, training=training)

    def call(self, inputs, training=None):
        return self.last(self.features(inputs, training=training))


rng = np.random.default_rng(0)
x = rng.normal(size=(16, 5)).astype("float32")
y = rng.integers(0, 3, size=16)

model = Classifier(3, name="classifier")
model.compile(
    optimizer=keras.optimizers.SGD(0.1),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
model(x[:1])


def run():
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    twin = Classifier(3)
    twin(ops.zeros((1, 5)))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "saved.weights.h5")
        model.save_weights(path)
        twin.load_weights(path)
    return {
        "history": history.history,
        "evaluated": model.evaluate(x, y, verbose=0),
        "outputs": model.predict(x, verbose=0),
        "called": np.asarray(model(x[:1])),
        "twin": twin.predict(x, verbose=0),
        "layers": [type(layer).__name__ for layer in model.layers],
        "count": model.count_params(),
        "name": model.name,
    }
