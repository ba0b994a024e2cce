"""A part that was called with `training=False` stays in inference mode after it is unfrozen."""

import keras
import numpy as np
import pytest

import fnn
from tests.helpers.both_libraries import normal, on_fnn, on_keras
from tests.helpers.oracle import keras_rules

X, Y = normal(8, 4) + 3, normal(8, 2, seed=1)

FINE_TUNED = """
    rows = [keras.Input((4,)), layers.Dense(3, kernel_initializer="ones")]
    rows += [layers.BatchNormalization(), layers.Dropout(0.5)]
    base = keras.Sequential(rows, name="base")
    inputs = keras.Input((4,))
    outputs = layers.Dense(2, kernel_initializer="ones")(base(inputs, training=False))
    model = keras.Model(inputs, outputs)
    base.trainable = False
    model.compile(keras.optimizers.SGD(1e-4), "mse")
"""


def tune(names):
    """(loss before, logged loss, moving mean) of one step after all is unfrozen."""
    names.base.trainable = True
    names.model.compile(names.keras.optimizers.SGD(1e-4), "mse")
    before = names.model.evaluate(X, Y, verbose=0)
    kernel = np.array(names.base.layers[0].get_weights()[0])
    history = names.model.fit(X, Y, batch_size=8, verbose=0).history
    assert abs(names.base.layers[0].get_weights()[0] - kernel).max() > 0
    return before, history["loss"][0], np.asarray(names.base.layers[1].get_weights()[2])


@pytest.mark.slow
def test_statistics_and_dropout_stand_still_as_the_guide_of_keras_promises():
    before, logged, mean = tune(on_fnn(FINE_TUNED))
    np.testing.assert_allclose(logged, before, rtol=1e-5)
    np.testing.assert_array_equal(mean, 0)


@pytest.mark.slow
def test_keras_itself_forgets_the_argument_in_fit():
    """Its functional models pass `training=True` of `fit` on, whatever the call said."""
    with keras_rules():
        before, logged, mean = tune(on_keras(FINE_TUNED))
    assert abs(logged - before) > 1
    assert (mean > 0.01).all()


LOGGING = """
    class Endpoint(layers.Layer):
        def __init__(self):
            super().__init__()
            self.mean = keras.metrics.Mean(name="seen")
        def call(self, x):
            self.mean.update_state(x)
            return x
"""


def test_a_metric_in_call_is_refused_with_words():
    """Keras on JAX fails in `fit`, too."""

    def run(names, library):
        model = library.Sequential([library.Input((4,)), names.Endpoint()])
        model.compile("sgd", "mse")
        model.fit(X, X, verbose=0)

    with pytest.raises(ValueError, match="give the metric to compile, update it in compute_loss"):
        run(on_fnn(LOGGING), fnn)
    with keras_rules(), pytest.raises(TypeError, match="'NoneType' object is not callable"):
        run(on_keras(LOGGING), keras)
