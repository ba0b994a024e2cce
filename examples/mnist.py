"""Handwritten digits by a convolutional network: what `make demo` runs. Writes demo.png.

MNIST if its files are there, else scikit-learn's small digits; nothing is downloaded. The baseline
takes the class whose mean image is nearest.

In full, with scikit-learn's digits (about 15 s of one core): accuracy 0.989, baseline 0.900.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import jax
import numpy as np

import fnn
from examples import common
from fnn.layers import Conv2D, Dense, Flatten, MaxPooling2D

SHARED = (
    Path(__file__).parents[2] / "shared" / "data"
)  # where a checkout may have the real files


def load():
    """MNIST if FNN_DATA or ../shared/data has it, else scikit-learn's small digits, enlarged.

    Returns the name, the number of epochs that it needs, and the data: images (n, 28, 28, 1) from
    0 to 1, classes one-hot.
    """
    folder = Path(os.environ.get("FNN_DATA") or SHARED)
    if (folder / "mnist").is_dir():
        os.environ["FNN_DATA"] = str(folder)
        (x_train, y_train), (x_test, y_test) = fnn.datasets.mnist()
        name, epochs, scale = "MNIST", 6, 255
    else:
        (x_train, y_train), (x_test, y_test) = fnn.datasets.digits()
        name, epochs, scale = "scikit-learn's digits, enlarged from 8x8", 12, 16

    def prepare(x, y):
        x = jax.image.resize(x.astype("float32") / scale, (len(x), 28, 28), "linear")
        return np.asarray(x)[..., None], np.eye(10, dtype="float32")[y]

    return name, epochs, prepare(x_train, y_train), prepare(x_test, y_test)


def draw(path, history, images, labels, predicted):
    """Training curves above, test digits with their predicted classes below, wrong ones first."""
    wrong = np.flatnonzero(predicted.argmax(axis=1) != labels.argmax(axis=1))[:8]
    order = np.concatenate([wrong, np.delete(np.arange(len(labels)), wrong)])
    figure = common.new_figure(10, 10.5)
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2.1))
    fnn.visualization.plot_history(history, figure=above)
    fnn.visualization.plot_predictions(
        images[order], labels[order], predicted[order], figure=below
    )
    common.write(figure, path)


def nearest_mean(images, labels, tested):
    """The class of each tested image by the nearest of the mean images."""
    means = labels.T @ images.reshape(len(images), -1) / labels.sum(axis=0)[:, None]
    # The square of the tested image itself is left out: it is the same for all classes.
    distances = (means**2).sum(axis=1) - 2 * tested.reshape(len(tested), -1) @ means.T
    return distances.argmin(axis=1)


def main(epochs=None, out="demo.png"):
    """Trains, prints the accuracy on the test set and the time, writes the picture."""
    name, enough, (x_train, y_train), (x_test, y_test) = load()
    epochs = epochs or enough
    print(f"{name}: {len(x_train)} images to train on, {len(x_test)} to test")
    model = fnn.Sequential(
        [
            Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)),
            MaxPooling2D((2, 2)),
            Conv2D(64, (3, 3), activation="relu"),
            MaxPooling2D((2, 2)),
            Flatten(),
            Dense(128, activation="relu"),
            Dense(10, activation="softmax"),
        ],
        seed=0,
    )
    model.compile(
        optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"]
    )
    model.summary()
    start = time.perf_counter()
    history = model.fit(
        x_train, y_train, batch_size=32, epochs=epochs, validation_split=0.1
    )
    seconds = time.perf_counter() - start
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"test accuracy {accuracy:.4f} after {epochs} epochs in {seconds:.0f} s")
    baseline = (nearest_mean(x_train, y_train, x_test) == y_test.argmax(axis=1)).mean()
    print(f"the nearest mean image: {baseline:.4f}")
    draw(out, history, x_test, y_test, model.predict(x_test, verbose=0))
    return accuracy


if __name__ == "__main__":
    common.run(main)
