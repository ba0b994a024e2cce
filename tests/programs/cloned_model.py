"""clone_model: the same architecture with weights of its own, also with other layers in it."""

import keras
import numpy as np
from keras import layers

rng = np.random.default_rng(0)
x = rng.normal(size=(6, 4)).astype("float32")
y = rng.normal(size=(6, 2)).astype("float32")

inputs = keras.Input((4,))
shared = layers.Dense(4, activation="relu", name="shared")
h = shared(shared(inputs))
model = keras.Model(inputs, layers.Dense(2, name="last")(h))
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")


def with_tanh(layer):
    config = layer.get_config()
    if isinstance(layer, layers.Dense):
        config["activation"] = "tanh"
    return layer.__class__.from_config(config)


def run():
    model.fit(x, y, batch_size=6, epochs=1, verbose=0)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    before = clone.predict(x, verbose=0)
    model.fit(x, y, batch_size=6, epochs=1, verbose=0)
    changed = keras.models.clone_model(model, clone_function=with_tanh)
    changed.set_weights(model.get_weights())
    again = keras.models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    return {
        "before": before,
        "clone_is_apart": clone.predict(x, verbose=0),
        "changed": changed.predict(x, verbose=0),
        "again": again.predict(x, verbose=0),
        "names": [layer.name for layer in clone.layers[1:]],
    }
