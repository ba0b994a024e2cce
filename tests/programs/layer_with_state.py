"""A layer with state: a vector quantizer with moving averages, and a stateful LSTM."""

import keras
import numpy as np
from keras import layers, ops


class MovingQuantizer(layers.Layer):
    """Replaces each vector by the nearest one of a table, which follows the data."""

    def __init__(self, entries, size, decay=0.9, **kwargs):
        super().__init__(**kwargs)
        self.entries = entries
        self.decay = decay
        self.table = self.add_weight(
            shape=(entries, size),
            initializer=keras.initializers.RandomNormal(stddev=1.0, seed=3),
            trainable=False,
            name="table",
        )
        self.used = self.add_weight(
            shape=(entries,), initializer="ones", trainable=False, name="used"
        )

    def call(self, inputs, training=False):
        squares = ops.sum(ops.square(self.table), axis=1)
        distances = squares - 2.0 * ops.matmul(inputs, ops.transpose(self.table))
        chosen = ops.one_hot(ops.argmin(distances, axis=-1), self.entries)
        quantized = ops.matmul(chosen, self.table)
        if training:
            used = self.decay * self.used + (1 - self.decay) * ops.sum(chosen, axis=0)
            sums = ops.matmul(ops.transpose(chosen), inputs)
            share = ops.expand_dims((1 - self.decay) / used, -1)
            self.table.assign_add(share * (sums - self.table))
            self.used.assign(used)
        self.add_loss(0.25 * ops.mean(ops.square(ops.stop_gradient(quantized) - inputs)))
        return inputs + ops.stop_gradient(quantized - inputs)


rng = np.random.default_rng(0)
x = rng.normal(size=(12, 4)).astype("float32")

quantizer = MovingQuantizer(5, 3)
model = keras.Sequential([keras.Input((4,)), layers.Dense(3), quantizer, layers.Dense(4)])
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")

reader = layers.LSTM(3, stateful=True)
stateful = keras.Sequential([keras.Input(batch_shape=(2, 4, 2)), reader])
models = [model, stateful]
series = rng.normal(size=(2, 8, 2)).astype("float32")


def run():
    history = model.fit(x, x, batch_size=6, epochs=2, shuffle=False, verbose=0)
    first = np.asarray(stateful(series[:, :4]))
    second = np.asarray(stateful(series[:, 4:]))
    states = [np.asarray(state) for state in reader.states]
    reader.reset_state()
    again = np.asarray(stateful(series[:, :4]))
    return {
        "losses": history.history["loss"],
        "used": np.asarray(quantizer.used),
        "outputs": model.predict(x, verbose=0),
        "series": [first, second],
        "states": states,
        "again_is_first": bool(np.allclose(again, first)),
    }
