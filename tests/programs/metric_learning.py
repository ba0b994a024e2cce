"""Metric learning: anchors and positives embedded by one model, similarities as logits."""

import jax
import keras
import numpy as np
from keras import layers, ops

CLASSES = 4


class EmbeddingModel(keras.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.tracker]

    def compute_similarity_loss(self, trainable, non_trainable, anchors, positives):
        embedded = []
        for images in (anchors, positives):
            y, non_trainable = self.stateless_call(trainable, non_trainable, images, training=True)
            embedded.append(y)
        similarities = ops.einsum("ae,pe->ap", *embedded) / 0.2
        labels = ops.arange(CLASSES)
        return self.entropy(labels, similarities), non_trainable

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        anchors, positives = data
        gradient = jax.value_and_grad(self.compute_similarity_loss, has_aux=True)
        (loss, non_trainable), grads = gradient(trainable, non_trainable, anchors, positives)
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, grads, trainable
        )
        metrics_variables = self.tracker.stateless_update_state(metrics_variables, loss)
        logs = {"loss": self.tracker.stateless_result(metrics_variables)}
        return logs, (trainable, non_trainable, optimizer_variables, metrics_variables)


inputs = layers.Input(shape=(6, 6, 2))
x = layers.Conv2D(filters=4, kernel_size=3, strides=2, activation="relu")(inputs)
x = layers.BatchNormalization()(x)
x = layers.GlobalAveragePooling2D()(x)
embeddings = layers.Dense(units=5, activation=None)(x)
embeddings = layers.UnitNormalization()(embeddings)
model = EmbeddingModel(inputs, embeddings)
model.compile(optimizer=keras.optimizers.SGD(learning_rate=0.01))

rng = np.random.default_rng(0)
anchors = rng.uniform(size=(3 * CLASSES, 6, 6, 2)).astype("float32")
positives = anchors + 0.1 * rng.uniform(size=anchors.shape).astype("float32")


def run():
    history = model.fit(anchors, positives, batch_size=CLASSES, epochs=2, shuffle=False, verbose=0)
    embedded = model.predict(anchors, verbose=0)
    nearest = np.argsort(-(embedded @ embedded.T), axis=1)[:, 1]
    return {
        "losses": history.history["loss"],
        "embedded": embedded,
        "nearest": nearest,
    }
