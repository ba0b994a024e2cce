"""Functions of losses under all their names, in fnn.losses and fnn.metrics, against Keras's."""

import numpy as np
import pytest

import fnn
from tests.helpers.oracle import keras_rules

# Short names and names of before -> Keras's.
ALIASES = {
    "mean_squared_error": ("mse", "MSE"),
    "mean_absolute_error": ("mae", "MAE"),
    "mean_absolute_percentage_error": ("mape", "MAPE"),
    "mean_squared_logarithmic_error": ("msle", "MSLE"),
    "kl_divergence": ("kld", "KLD", "kullback_leibler_divergence"),
    "log_cosh": ("logcosh",),
    "binary_crossentropy": ("bce",),
}
OTHERS = [
    "binary_focal_crossentropy", "categorical_crossentropy", "categorical_focal_crossentropy",
    "categorical_hinge", "hinge", "huber", "poisson", "squared_hinge",
]  # fmt: skip
TRUE = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], "float32")
PRED = np.array([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2]], "float32")


@pytest.mark.parametrize("name", [*ALIASES, *OTHERS])
def test_functions_of_metrics_are_those_of_losses(name):
    with keras_rules():
        import keras

        expected = getattr(keras.metrics, name)(TRUE, PRED)
    function = getattr(fnn.metrics, name)
    np.testing.assert_allclose(function(TRUE, PRED), expected, rtol=1e-5)
    for other in (name, *ALIASES.get(name, ())):
        for module in (fnn.losses, fnn.metrics):
            assert getattr(module, other) is function
            assert other in module.__all__


def test_labels():
    with keras_rules():
        import keras

        expected = keras.metrics.sparse_categorical_crossentropy(TRUE.argmax(1), PRED)
    found = fnn.metrics.sparse_categorical_crossentropy(TRUE.argmax(1), PRED)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
