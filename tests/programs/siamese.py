"""A Siamese network: one tower for two images, a Lambda distance, a contrastive loss."""

import keras
import numpy as np
from keras import layers, ops


def euclidean_distance(vectors):
    a, b = vectors
    squares = ops.sum(ops.square(a - b), axis=1, keepdims=True)
    return ops.sqrt(ops.maximum(squares, keras.config.epsilon()))


def contrastive_loss(margin=1.0):
    def loss(y_true, y_pred):
        near = ops.square(y_pred)
        far = ops.square(ops.maximum(margin - y_pred, 0.0))
        return ops.mean((1.0 - y_true) * near + y_true * far)

    return loss


image = keras.Input((8, 8, 1))
h = layers.BatchNormalization()(image)
h = layers.Conv2D(4, 3, activation="tanh")(h)
h = layers.AveragePooling2D(pool_size=(2, 2))(h)
h = layers.Flatten()(h)
h = layers.BatchNormalization()(h)
tower = keras.Model(image, layers.Dense(5, activation="tanh")(h))

first, second = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
distance = layers.Lambda(euclidean_distance, output_shape=(1,))([tower(first), tower(second)])
normal = layers.BatchNormalization()(distance)
siamese = keras.Model(inputs=[first, second], outputs=layers.Dense(1, activation="sigmoid")(normal))
siamese.compile(
    loss=contrastive_loss(margin=1.0),
    optimizer=keras.optimizers.SGD(0.1),
    metrics=["accuracy"],
)
model = siamese

rng = np.random.default_rng(0)
a = rng.uniform(size=(8, 8, 8, 1)).astype("float32")
b = rng.uniform(size=(8, 8, 8, 1)).astype("float32")
y = rng.integers(0, 2, size=(8, 1)).astype("float32")


def run():
    history = siamese.fit([a, b], y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return {
        "history": history.history,
        "distances": siamese.predict([a, b], verbose=0),
    }
