"""A vision transformer: a Patches layer, a PatchEncoder, a block of attention."""

import keras
import numpy as np
from keras import layers, ops

PATCH, WIDTH, CLASSES = 4, 8, 3


class Patches(layers.Layer):
    def __init__(self, patch_size):
        super().__init__()
        self.patch_size = patch_size

    def call(self, images):
        shape = ops.shape(images)
        patches = keras.ops.image.extract_patches(images, size=self.patch_size)
        count = (shape[1] // self.patch_size) * (shape[2] // self.patch_size)
        return ops.reshape(patches, (shape[0], count, self.patch_size * self.patch_size * shape[3]))

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}


class PatchEncoder(layers.Layer):
    def __init__(self, num_patches, width):
        super().__init__()
        self.num_patches = num_patches
        self.projection = layers.Dense(units=width)
        self.position_embedding = layers.Embedding(num_patches, width)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(0, self.num_patches, 1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)


def mlp(x, units):
    for size in units:
        x = layers.Dense(size, activation=keras.activations.gelu)(x)
        x = layers.Dropout(0.0)(x)
    return x


inputs = keras.Input((8, 8, 3))
x = layers.Rescaling(0.5)(inputs)
x = PatchEncoder(4, WIDTH)(Patches(PATCH)(x))
normal = layers.LayerNormalization(epsilon=1e-6)(x)
attended = layers.MultiHeadAttention(num_heads=2, key_dim=4, dropout=0.0)(normal, normal)
x = layers.Add()([attended, x])
normal = layers.LayerNormalization(epsilon=1e-6)(x)
x = layers.Add()([mlp(normal, [12, WIDTH]), x])
x = layers.LayerNormalization(epsilon=1e-6)(x)
x = mlp(layers.Flatten()(x), [10])
model = keras.Model(inputs=inputs, outputs=layers.Dense(CLASSES)(x))
model.compile(
    optimizer=keras.optimizers.SGD(learning_rate=0.01, weight_decay=0.001),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[
        keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        keras.metrics.SparseTopKCategoricalAccuracy(2, name="top-2"),
    ],
)

rng = np.random.default_rng(0)
images = rng.uniform(size=(6, 8, 8, 3)).astype("float32")
labels = rng.integers(0, CLASSES, size=6)


def run():
    before = model.predict(images, verbose=0)
    patches = Patches(PATCH)(images)
    history = model.fit(images, labels, batch_size=6, epochs=2, shuffle=False, verbose=0)
    return {
        "before": before,
        "patches": np.asarray(patches),
        "history": history.history,
    }
