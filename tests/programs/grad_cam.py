"""Grad-CAM: the gradient of a class score by the maps of a layer inside, through sub-models."""

import jax
import keras
import numpy as np
from keras import layers, ops

inputs = keras.Input((8, 8, 3))
x = layers.Conv2D(4, 3, activation="relu", name="first")(inputs)
x = layers.Conv2D(4, 3, activation="relu", name="last_maps")(x)
x = layers.GlobalMaxPooling2D(name="pool")(x)
x = layers.Dense(6, activation="tanh", name="hidden")(x)
outputs = layers.Dense(3, activation="softmax", name="scores")(x)
model = keras.Model(inputs, outputs)


def heatmap(image, model, name, index=None):
    to_maps = keras.Model(model.inputs, model.get_layer(name).output)
    position = [layer.name for layer in model.layers].index(name)
    maps_input = keras.Input(to_maps.outputs[0].shape[1:])
    h = maps_input
    for layer in model.layers[position + 1 :]:
        h = layer(h)
    to_scores = keras.Model(maps_input, h)

    maps = to_maps(image)
    if index is None:
        index = int(ops.argmax(to_scores(maps)[0]))
    grads = jax.grad(lambda maps: to_scores(maps)[0, index])(maps)
    pooled = ops.mean(grads, axis=(0, 1, 2))
    heat = ops.squeeze(maps[0] @ pooled[..., None], axis=-1)
    heat = ops.maximum(heat, 0.0)
    return np.asarray(heat / ops.maximum(ops.max(heat), 1e-12)), index


rng = np.random.default_rng(0)
image = rng.uniform(size=(1, 8, 8, 3)).astype("float32")


def run():
    model.layers[-1].activation = None
    heat, index = heatmap(image, model, "last_maps")
    other, _ = heatmap(image, model, "last_maps", index=(index + 1) % 3)
    return {
        "logits": model.predict(image, verbose=0),
        "index": index,
        "heat": heat,
        "other": other,
    }
