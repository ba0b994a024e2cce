"""Sub-models: from the inputs of a model to a layer inside it, sharing the weights."""

import keras
import numpy as np
from keras import layers

rng = np.random.default_rng(0)
x = rng.normal(size=(4, 8, 8, 1)).astype("float32")
y = rng.integers(0, 2, size=4)

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(3, 3, activation="relu", name="convolution"),
        layers.GlobalAveragePooling2D(name="pool"),
        layers.Dense(2, activation="softmax", name="scores"),
    ]
)
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
features = keras.Model(
    inputs=model.inputs,
    outputs=[model.get_layer("convolution").output, model.outputs[0]],
)
extended = keras.Sequential([*features.layers[:2], layers.Flatten(), layers.Dense(1, name="new")])
extended.build((None, 8, 8, 1))
models = [model, extended]


def run():
    history = model.fit(x, y, batch_size=2, epochs=1, shuffle=False, verbose=0)
    maps, scores = features(x)
    model.layers[-1].activation = None
    return {
        "losses": history.history["loss"],
        "maps": np.asarray(maps),
        "scores": np.asarray(scores),
        "logits": np.asarray(model(x)),
        "extended": extended.predict(x, verbose=0),
        "layers": [layer.name for layer in model.layers],
        "shape": tuple(model.get_layer("convolution").output.shape),
    }
