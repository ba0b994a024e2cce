"""Names and shapes of Keras's networks for images, as `tests/applications/networks.txt` has them.

`python -m tests.generate.applications` writes the file anew from live Keras, in some minutes.
"""

import hashlib
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import fnn
from tests.helpers.applications import of_keras, weights

FILE = Path(__file__).parents[1] / "applications" / "networks.txt"
NETWORKS = [name for name in fnn.applications.__all__ if name[0].isupper()]


def row(name, model):
    """Name, layers, weights, numbers in them, and a digest of all names and shapes in order."""
    names = [layer.name for layer in model.layers]
    shapes = [(path, tuple(variable.shape)) for path, variable in weights(model)]
    digest = hashlib.sha256(repr((names, shapes)).encode()).hexdigest()[:16]
    return f"{name} {len(names)} {len(shapes)} {model.count_params()} {digest}"


def text():
    """What the file holds."""
    return "".join(f"{row(name, of_keras(name))}\n" for name in NETWORKS)


if __name__ == "__main__":
    FILE.write_text(text())
