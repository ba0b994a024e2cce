"""What Keras has in `keras.preprocessing` too."""

import numpy as np
import pytest

import fnn
from tests.helpers.oracle import keras_rules

RNG = np.random.default_rng(0)


def test_functions_have_the_names_of_keras(keras):
    for module in ("preprocessing", "preprocessing.image", "preprocessing.sequence"):
        theirs, ours = keras, fnn
        for part in module.split("."):
            theirs, ours = getattr(theirs, part), getattr(ours, part)
        missing = {name for name in dir(theirs) if name[0] != "_"} - set(dir(ours))
        assert not missing, module


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((7, 12, 3), (4, 5)), ((2, 13, 6, 3), (3, 9)), ((5, 5, 1), (8, 8)), ((2, 3, 11, 1), (7, 3))],
)
def test_smart_resize_cuts_as_keras_does(keras, shape, size, interpolation):
    x = RNG.uniform(0, 255, shape).astype("float32")
    with keras_rules():
        theirs = keras.preprocessing.image.smart_resize(x, size, interpolation)
    ours = fnn.preprocessing.image.smart_resize(x, size, interpolation)
    assert isinstance(ours, np.ndarray)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)
