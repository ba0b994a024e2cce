"""Objects of Keras itself given to fnn, and fnn's given to Keras: errors that name the mistake."""

import keras
import numpy as np
import pytest

import fnn
from tests.helpers.oracle import keras_rules

Dense = fnn.layers.Dense
NODE = "expected a symbolic node of fnn, received one of Keras; make it with fnn.Input"


class OfKeras(keras.layers.Layer):
    pass


class LossOfKeras(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return y_true - y_pred


def compiled(**arguments):
    model = fnn.Sequential([Dense(1, input_shape=(4,))])
    model.compile(**arguments)


@pytest.fixture
def node():
    with keras_rules():
        return keras.Input((4,))


LAYER = r"Dense\(\.\.\.\) is a layer of Keras; import it from fnn\.layers"
OPTIMIZER = r"Adam\(\.\.\.\) is an optimizer of Keras; import it from fnn\.optimizers"
CASES = {
    "a layer": (lambda: fnn.Sequential([keras.layers.Dense(3)]), LAYER),
    "a class": (lambda: fnn.Sequential([keras.layers.Dense]), LAYER),
    "a layer to add": (lambda: fnn.Sequential().add(keras.layers.Dense(3)), LAYER),
    "a layer to wrap": (lambda: fnn.layers.TimeDistributed(keras.layers.Dense(3)), LAYER),
    "an own layer": (
        lambda: fnn.Sequential([OfKeras()]),
        r"OfKeras\(\.\.\.\) is a layer of Keras, since it is derived from Keras's Layer; import "
        r"Layer from fnn\.layers",
    ),
    "a model": (lambda: fnn.Model(keras.Sequential()), "is a model of Keras; import it from fnn"),
    "an initializer": (
        lambda: Dense(2, kernel_initializer=keras.initializers.HeNormal()),
        r"HeNormal\(\.\.\.\) is an initializer of Keras; import it from fnn\.initializers",
    ),
    "a regularizer": (
        lambda: Dense(2, kernel_regularizer=keras.regularizers.L2()),
        "is a regularizer of Keras",
    ),
    "a layer as activation": (
        lambda: Dense(2, activation=keras.layers.ReLU()),
        "ReLU.* is a layer of Keras",
    ),
    "an optimizer": (lambda: compiled(optimizer=keras.optimizers.Adam()), OPTIMIZER),
    "an optimizer's class": (lambda: compiled(optimizer=keras.optimizers.Adam), OPTIMIZER),
    "a schedule": (
        lambda: fnn.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)),
        r"CosineDecay\(\.\.\.\) is a schedule of Keras; import it from fnn\.schedules",
    ),
    "a loss": (
        lambda: compiled(loss=keras.losses.MeanSquaredError()),
        r"MeanSquaredError\(\.\.\.\) is a loss of Keras; import it from fnn\.losses",
    ),
    "an own loss": (lambda: compiled(loss=LossOfKeras()), "derived from Keras's Loss"),
    "a metric": (
        lambda: compiled(loss="mse", metrics=[keras.metrics.AUC()]),
        r"AUC\(\.\.\.\) is a metric of Keras; import it from fnn\.metrics",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_object_of_keras_is_named(case):
    make, message = CASES[case]
    with keras_rules(), pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    "use",
    [
        lambda node: Dense(2)(node),
        lambda node: fnn.layers.Add()([fnn.Input((4,)), node]),
        lambda node: fnn.Input((4,)) + node,
        lambda node: fnn.ops.exp(node),
        lambda node: fnn.Model(node, fnn.Input((4,))),
        lambda node: fnn.Model(fnn.Input((4,)), node),
        lambda node: fnn.Sequential([node, Dense(2)]),
        lambda node: fnn.Sequential([Dense(1, input_shape=(4,))])(node),
    ],
)
def test_a_node_of_keras_is_named(use, node):
    with keras_rules(), pytest.raises(TypeError, match=NODE):
        use(node)


@pytest.mark.parametrize("called", [keras.layers.Dense(3), keras.ops.relu])
def test_a_node_of_fnn_given_to_keras_is_named(called):
    message = "expected a node or array of Keras, received <Node .* of fnn; import the layer or"
    with keras_rules(), pytest.raises(TypeError, match=message):
        called(fnn.Input((4,)))


def test_functions_and_arrays_of_keras_are_welcome():
    with keras_rules():
        layer = Dense(2, activation=keras.activations.relu)
        model = fnn.Sequential([fnn.Input((4,)), layer], seed=0)
        x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
        y = model.predict(keras.ops.convert_to_tensor(x), verbose=0)
        np.testing.assert_array_equal(y, model.predict(x, verbose=0))
    assert (y >= 0).all()
