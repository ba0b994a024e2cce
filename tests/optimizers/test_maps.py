"""OptimizerMap and MultiOptimizer against Keras's."""

import json

import numpy as np
import pytest

import fnn
from fnn.optimizers import SGD, Adam, LossScaleOptimizer, MultiOptimizer, OptimizerMap
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
Y = X[:, :1] ** 2


@pytest.fixture
def keras():
    with keras_rules():
        import keras

        yield keras


def graph(package):
    """In a graph, the paths of Keras's weights have no name of the model in front."""
    inputs = package.Input((4,))
    y = package.layers.Dense(5, "tanh", name="encoder")(inputs)
    return package.Model(inputs, package.layers.Dense(1, name="head")(y))


def several(package):
    o = package.optimizers
    found = o.OptimizerMap(o.SGD(0.1), {"encoder/.*": o.Adam(0.05)})
    found["head/bias"] = o.SGD(0.5, momentum=0.9)
    return found


def test_weights_train_as_in_keras(keras):
    theirs, ours = graph(keras), graph(fnn)
    draw = np.random.default_rng(1)
    start = [draw.normal(size=w.shape).astype("float32") for w in ours.get_weights()]
    ours.set_weights(start)
    theirs.set_weights(start)
    for package, model in ((keras, theirs), (fnn, ours)):
        model.compile(package.optimizers.MultiOptimizer(several(package)), "mse")
        model.fit(X, Y, epochs=4, batch_size=6, shuffle=False, verbose=0)
    for received, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-3)
    assert set(ours.learning_rate) == {"encoder/.*", "head/bias", ""}


def test_maps_find_optimizers_as_in_keras(keras):
    for package in (fnn, keras):
        found = several(package)
        for path, name in (("encoder/kernel", "adam"), ("head/bias", "sgd"), ("x", "sgd")):
            assert found[path].name.startswith(name)
        assert list(found) == ["encoder/.*", "head/bias"]
        assert len(found) == 2
        assert isinstance(found.default_optimizer, package.optimizers.SGD)
        with pytest.raises(ValueError, match="head/bias"):
            found["head/bias"] = package.optimizers.SGD()
        with pytest.raises(ValueError, match="optimizer"):
            found["x"] = package.optimizers.LossScaleOptimizer(package.optimizers.SGD())
        with pytest.raises(ValueError, match="optimizer"):
            found["x"] = "adam"
        found[".*coder/.*"] = package.optimizers.SGD()
        with pytest.raises(ValueError, match="encoder/kernel"):
            found["encoder/kernel"]
        del found[".*coder/.*"]
        with pytest.raises(TypeError, match="default_optimizer"):
            package.optimizers.OptimizerMap("sgd")
        with pytest.raises(TypeError, match="optimizer_map"):
            package.optimizers.OptimizerMap(package.optimizers.SGD(), [])


def test_configs(keras):
    ours = several(fnn)
    again = OptimizerMap.from_config(json.loads(json.dumps(ours.get_config())))
    assert dict(again) == dict(ours)
    assert again.default_optimizer == ours.default_optimizer
    theirs = OptimizerMap.from_config(several(keras).get_config())
    kinds = [type(theirs[path]) for path in ("encoder/kernel", "head/bias", "x")]
    assert kinds == [Adam, SGD, SGD]
    optimizer = MultiOptimizer(ours)
    described = json.loads(json.dumps(fnn.optimizers.serialize(optimizer)))
    assert fnn.optimizers.deserialize(described) == optimizer
    assert MultiOptimizer(optimizer_map=several(fnn)) == optimizer


@pytest.mark.slow
def test_a_function_of_weights_as_in_keras(keras):
    """Each package calls it with its own weights."""
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    results = []
    for package in (keras, fnn):
        layers, optimizers = package.layers, package.optimizers
        row = [package.Input((3,)), layers.Dense(4, name="a"), layers.Dense(2, name="b")]
        model = package.Sequential(row, name="net")
        model.set_weights([np.full(w.shape, 0.1) for w in model.get_weights()])

        def choose(weight, optimizers=optimizers):
            if weight.path == "net/a/kernel":
                return optimizers.SGD(0.5)
            return optimizers.SGD(0.0 if weight.name == "bias" else 0.1)

        model.compile(optimizers.MultiOptimizer(choose), "mse")
        model.fit(x, y, epochs=2, verbose=0)
        results.append(model.get_weights())
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert len(model.optimizer.learning_rate) == 3


def test_what_is_no_map():
    with pytest.raises(ValueError, match=r"to be an OptimizerMap or a function, .*; e\.g\. Opt"):
        MultiOptimizer("adam")
    with pytest.raises(ValueError, match=r"expected to know the weights .*; compile a model"):
        MultiOptimizer(lambda variable: Adam()).init({"kernel": np.ones(2)})
    with pytest.raises(ValueError, match="expected a plain optimizer"):
        MultiOptimizer(OptimizerMap(LossScaleOptimizer(SGD())))
