"""A recommender: embeddings of users and films, their dot products and biases."""

import keras
import numpy as np
from keras import layers, ops

USERS, FILMS, SIZE = 7, 9, 4


class RecommenderNet(keras.Model):
    def __init__(self, users, films, size, **kwargs):
        super().__init__(**kwargs)
        self.user_embedding = layers.Embedding(
            users,
            size,
            embeddings_initializer="he_normal",
            embeddings_regularizer=keras.regularizers.l2(1e-3),
        )
        self.user_bias = layers.Embedding(users, 1)
        self.film_embedding = layers.Embedding(
            films,
            size,
            embeddings_initializer="he_normal",
            embeddings_regularizer=keras.regularizers.l2(1e-3),
        )
        self.film_bias = layers.Embedding(films, 1)

    def call(self, inputs):
        user = self.user_embedding(inputs[:, 0])
        film = self.film_embedding(inputs[:, 1])
        match = ops.sum(user * film, axis=1, keepdims=True)
        x = match + self.user_bias(inputs[:, 0]) + self.film_bias(inputs[:, 1])
        return ops.nn.sigmoid(x)


rng = np.random.default_rng(0)
x = np.stack([rng.integers(0, USERS, size=16), rng.integers(0, FILMS, size=16)], axis=1).astype(
    "int32"
)
y = rng.uniform(size=16).astype("float32")

model = RecommenderNet(USERS, FILMS, SIZE)
model.compile(
    loss=keras.losses.BinaryCrossentropy(),
    optimizer=keras.optimizers.SGD(learning_rate=0.1),
)
model(x)

user, film = keras.Input((1,), name="user"), keras.Input((1,), name="film")
vectors = [
    layers.Flatten()(layers.Embedding(count, 3, name=f"{name}_vectors")(node))
    for name, count, node in (("users", USERS, user), ("films", FILMS, film))
]
dotted = keras.Model([user, film], layers.Dot(axes=1, normalize=True)(vectors))
dotted.compile(loss="mse", optimizer=keras.optimizers.SGD(0.1))
models = [model, dotted]


def run():
    history = model.fit(
        x=x,
        y=y,
        batch_size=4,
        epochs=2,
        shuffle=False,
        validation_data=(x[:4], y[:4]),
        verbose=0,
    )
    of_dots = dotted.fit(
        {"user": x[:, 0], "film": x[:, 1]},
        y,
        batch_size=8,
        epochs=1,
        shuffle=False,
        verbose=0,
    )
    unseen = np.array([[2, film] for film in range(FILMS)])
    ratings = model.predict(unseen, verbose=0).flatten()
    return {
        "history": history.history,
        "of_dots": of_dots.history["loss"],
        "ratings": ratings,
        "best": ratings.argsort()[-3:][::-1],
    }
