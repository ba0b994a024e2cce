"""A reader of short texts with the CTC loss in a layer of its own, which adds it."""

import keras
import numpy as np
from keras import layers, ops

CHARACTERS = 5


class CTCLayer(layers.Layer):
    def __init__(self, name=None):
        super().__init__(name=name)

    def call(self, y_true, y_pred):
        batch = ops.shape(y_true)[0]
        steps = ops.shape(y_pred)[1]
        length = ops.shape(y_true)[1]
        ones = ops.ones((batch,), dtype="int32")
        loss = ops.ctc_loss(y_true, y_pred, length * ones, steps * ones, mask_index=CHARACTERS)
        self.add_loss(ops.mean(loss))
        return y_pred


image = layers.Input(shape=(12, 4, 1), name="image")
labels = layers.Input(name="label", shape=(3,), dtype="int32")
x = layers.Conv2D(4, 3, activation="relu", padding="same", name="Conv1")(image)
x = layers.MaxPooling2D((2, 2), name="pool1")(x)
x = layers.Reshape(target_shape=(6, 8), name="reshape")(x)
x = layers.Dense(8, activation="relu", name="dense1")(x)
x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
x = layers.Dense(CHARACTERS + 1, name="dense2")(x)
output = CTCLayer(name="ctc_loss")(labels, x)
model = keras.Model(inputs=[image, labels], outputs=output, name="reader")
model.compile(optimizer=keras.optimizers.SGD(0.05))

rng = np.random.default_rng(0)
images = rng.uniform(size=(4, 12, 4, 1)).astype("float32")
texts = np.array([[0, 1, 2], [3, 4, 0], [1, 2, 1], [4, 3, 2]], "int32")


def run():
    history = model.fit(
        {"image": images, "label": texts},
        batch_size=2,
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    reader = keras.Model(
        model.get_layer(name="image").output, model.get_layer(name="dense2").output
    )
    scores = reader.predict(images, verbose=0)
    decoded, _ = ops.ctc_decode(scores, [6] * 4, strategy="greedy", mask_index=CHARACTERS)
    return {
        "losses": history.history["loss"],
        "scores": scores,
        "decoded": np.asarray(decoded[0]),
    }
