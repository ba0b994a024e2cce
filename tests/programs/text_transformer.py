"""A transformer that classifies texts: a block of attention, token and position embedding."""

import keras
import numpy as np
from keras import layers, ops

WORDS, LENGTH, WIDTH = 20, 6, 8


class TransformerBlock(layers.Layer):
    def __init__(self, width, heads, inner, rate=0.0):
        super().__init__()
        self.attention = layers.MultiHeadAttention(num_heads=heads, key_dim=width)
        self.feed_forward = keras.Sequential(
            [layers.Dense(inner, activation="relu"), layers.Dense(width)]
        )
        self.norms = [layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        self.dropouts = [layers.Dropout(rate) for _ in range(2)]

    def call(self, inputs, training=None):
        attended = self.attention(inputs, inputs)
        attended = self.dropouts[0](attended, training=training)
        middle = self.norms[0](inputs + attended)
        last = self.dropouts[1](self.feed_forward(middle), training=training)
        return self.norms[1](middle + last)


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, length, words, width):
        super().__init__()
        self.tokens = layers.Embedding(input_dim=words, output_dim=width)
        self.positions = layers.Embedding(input_dim=length, output_dim=width)

    def call(self, x):
        length = ops.shape(x)[-1]
        positions = self.positions(ops.arange(start=0, stop=length, step=1))
        return self.tokens(x) + positions


inputs = layers.Input(shape=(LENGTH,))
x = TokenAndPositionEmbedding(LENGTH, WORDS, WIDTH)(inputs)
x = TransformerBlock(WIDTH, 2, 10)(x)
x = layers.GlobalAveragePooling1D()(x)
x = layers.Dense(5, activation="relu")(x)
outputs = layers.Dense(2, activation="softmax")(x)
model = keras.Model(inputs=inputs, outputs=outputs)
model.compile(
    optimizer=keras.optimizers.SGD(0.1),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)

rng = np.random.default_rng(0)
texts = [rng.integers(1, WORDS, size=size).tolist() for size in (2, 6, 9, 4, 5, 7)]
x_train = keras.utils.pad_sequences(texts, maxlen=LENGTH)
y_train = rng.integers(0, 2, size=6)


def run():
    history = model.fit(
        x_train,
        y_train,
        batch_size=3,
        epochs=2,
        shuffle=False,
        validation_data=(x_train[:2], y_train[:2]),
        verbose=0,
    )
    return {
        "padded": x_train,
        "history": history.history,
        "count": model.count_params(),
    }
