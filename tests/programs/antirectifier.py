"""The antirectifier: an activation with a layer's class, which keeps both signs."""

import keras
import numpy as np
from keras import layers, ops


class Antirectifier(layers.Layer):
    def __init__(self, initializer="he_normal", **kwargs):
        super().__init__(**kwargs)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        features = input_shape[-1]
        self.kernel = self.add_weight(
            shape=(features * 2, features),
            initializer=self.initializer,
            name="kernel",
            trainable=True,
        )

    def call(self, inputs):
        inputs = inputs - ops.mean(inputs, axis=-1, keepdims=True)
        positive = ops.relu(inputs)
        negative = ops.relu(-inputs)
        both = ops.concatenate([positive, negative], axis=-1)
        return ops.matmul(both, self.kernel)

    def get_config(self):
        base = super().get_config()
        initializer = keras.initializers.serialize(self.initializer)
        return {**base, "initializer": initializer}


rng = np.random.default_rng(0)
x = rng.uniform(size=(16, 10)).astype("float32")
y = rng.integers(0, 3, size=16)

model = keras.Sequential(
    [
        keras.Input(shape=(10,)),
        layers.Dense(8),
        Antirectifier(),
        layers.Dense(8),
        Antirectifier(),
        layers.Dropout(0.0),
        layers.Dense(3),
    ]
)
model.compile(
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    optimizer=keras.optimizers.RMSprop(0.005),
    metrics=[keras.metrics.SparseCategoricalAccuracy()],
)


def run():
    history = model.fit(
        x,
        y,
        batch_size=4,
        epochs=2,
        shuffle=False,
        validation_split=0.25,
        verbose=0,
    )
    return {
        "history": history.history,
        "evaluated": model.evaluate(x, y, batch_size=4, verbose=0),
        "initializer": model.layers[1].get_config()["initializer"]["class_name"],
    }
