"""Configs of Keras 2, whose layers, calls and functions have other forms, against Keras 3."""

import json

import keras
import numpy as np
import pytest

import fnn
from fnn.models import model_from_json
from tests.helpers.oracle import keras_rules


def dense(name, units, *inputs, **config):
    """A Dense layer of Keras 2 in a graph, called on each of the inputs."""
    return {
        "class_name": "Dense",
        "config": {"name": name, "trainable": True, "dtype": "float32", "units": units}
        | {"kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}}}
        | config,
        "name": name,
        "inbound_nodes": [[item] for item in inputs],
    }


def start(name, *shape):
    config = {"batch_input_shape": [None, *shape], "dtype": "float32", "sparse": False}
    config |= {"ragged": False, "name": name}
    return {"class_name": "InputLayer", "config": config, "name": name, "inbound_nodes": []}


def function(name, of, *nodes, kind="TFOpLambda"):
    config = {"name": name, "trainable": True, "dtype": "float32", "function": of}
    return {"class_name": kind, "config": config, "name": name, "inbound_nodes": list(nodes)}


def graph(layers, inputs, outputs, name="graph"):
    config = {"name": name, "layers": layers, "input_layers": inputs, "output_layers": outputs}
    return {"class_name": "Functional", "config": config, "keras_version": "2.9.0"}


def read(described, **named):
    return model_from_json(json.dumps(described), **named)


def as_in_keras(model, build, *shape):
    """The model computes what `build(keras)` computes with the same weights."""
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    with keras_rules():
        theirs = build(keras)
        model.set_weights(theirs.get_weights())
        expected = np.asarray(theirs(x))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_row_whose_first_layer_says_the_shape():
    first = {"class_name": "Conv2D", "config": {
        "name": "conv", "batch_input_shape": [None, 4, 5, 2], "filters": 3, "kernel_size": [2, 2],
        "strides": [1, 1], "padding": "valid", "activation": "relu", "groups": 1}}  # fmt: skip
    norm = {"class_name": "BatchNormalizationV1", "config": {
        "name": "bn", "axis": [3], "momentum": 0.9, "epsilon": 0.01, "fused": True}}  # fmt: skip
    depthwise = {"class_name": "DepthwiseConv2D", "config": {
        "name": "depth", "kernel_size": [2, 2], "groups": 1, "depth_multiplier": 1,
        "kernel_initializer": {"class_name": "GlorotUniform", "config": {}}}}  # fmt: skip
    leaky = {"class_name": "LeakyReLU", "config": {"name": "leaky", "alpha": 0.2}}
    layers = [first, norm, depthwise, leaky]
    for config in (layers, {"name": "row", "layers": layers}):
        model = read({"class_name": "Sequential", "config": config})
        assert model.input_shape == (None, 4, 5, 2)
    as_in_keras(
        model,
        lambda k: k.Sequential(
            [
                k.Input((4, 5, 2)),
                k.layers.Conv2D(3, 2, activation="relu"),
                k.layers.BatchNormalization(momentum=0.9, epsilon=0.01),
                k.layers.DepthwiseConv2D(2),
                k.layers.LeakyReLU(0.2),
            ]
        ),
        *(4, 5, 2),
    )


def test_rows_of_ids():
    first = {"class_name": "Embedding", "config": {
        "name": "e", "batch_input_shape": [None, 5], "input_dim": 7, "output_dim": 3,
        "dtype": "float32", "mask_zero": True, "input_length": 5}}  # fmt: skip
    lstm = {"class_name": "LSTM", "config": {
        "name": "l", "units": 2, "implementation": 2, "time_major": False}}  # fmt: skip
    model = read({"class_name": "Sequential", "config": {"name": "r", "layers": [first, lstm]}})
    assert model.predict(np.ones((2, 5), "int32"), verbose=0).shape == (2, 2)


def test_a_graph_with_a_shared_layer_functions_and_slices():
    described = graph(
        [
            start("x", 4),
            dense("a", 4, ["x", 0, 0, {}], ["a", 0, 0, {}]),
            function("tf.math.add", "math.add", ["a", 1, 0, {"y": ["a", 0, 0], "name": None}]),
            function("tf.mul", "math.multiply", ["_CONSTANT_VALUE", -1, 2.0,
                                                 {"y": ["tf.math.add", 0, 0]}]),
            function("tf.concat", "concat", [["tf.mul", 0, 0, {"axis": -1}],
                                             ["x", 0, 0, {"axis": -1}]]),
            function("tf.slice", None, ["tf.concat", 0, 0, {"slice_spec": [
                {"start": None, "stop": None, "step": None},
                {"start": 1, "stop": 7, "step": 2}]}], kind="SlicingOpLambda"),
            function("tf.mean", "math.reduce_mean",
                     ["tf.slice", 0, 0, {"axis": 1, "keepdims": True}]),
        ],
        [["x", 0, 0]],
        [["tf.mean", 0, 0]],
    )  # fmt: skip
    # A call of one input is a list of that input.
    for entry in described["config"]["layers"][2:]:
        nodes = entry["inbound_nodes"]
        entry["inbound_nodes"] = [n if isinstance(n[0], list) else [n] for n in nodes]

    def build(k):
        x = k.Input((4,))
        a = k.layers.Dense(4)
        first = a(x)
        both = k.ops.concatenate([2.0 * (a(first) + first), x], axis=-1)
        return k.Model(x, k.ops.mean(both[:, 1:7:2], axis=1, keepdims=True))

    model = read(described)
    as_in_keras(model, build, 4)
    unknown = function("f", "signal.fft", [["x", 0, 0, {}]])
    with pytest.raises(ValueError, match=r"signal\.fft in the layer 'f'; rebuild the network"):
        read(graph([start("x", 4), unknown], [["x", 0, 0]], [["f", 0, 0]]))


def test_models_inside_of_a_graph_count_their_calls_from_one():
    inner = graph([start("i", 4), dense("d", 4, ["i", 0, 0, {}])], [["i", 0, 0]], [["d", 0, 0]])
    inner |= {"name": "inner", "inbound_nodes": [[["x", 0, 0, {}]], [["inner", 1, 0, {}]]]}
    row = {"class_name": "Sequential", "name": "row", "inbound_nodes": [[["inner", 2, 0, {}]]]}
    row["config"] = {"name": "row", "layers": [start("j", 4), dense("e", 2)]}
    merged = {"class_name": "Concatenate", "config": {"name": "c", "axis": -1}, "name": "c"}
    merged["inbound_nodes"] = [[["inner", 1, 0, {}], ["row", 1, 0, {}]]]
    layers = [start("x", 4), inner, row, merged]
    model = read(graph(layers, [["x", 0, 0]], [["c", 0, 0], ["row", 1, 0], ["inner", 2, 0]]))
    assert [output.shape for output in model.outputs] == [(None, 6), (None, 2), (None, 4)]

    def build(k):
        d, e = k.layers.Dense(4), k.layers.Dense(2)
        x = k.Input((4,))
        first = d(x)
        return k.Model(x, k.layers.Concatenate()([first, e(d(first))]))

    as_in_keras(fnn.Model(model.input, model.outputs[0]), build, 4)


@pytest.mark.slow
def test_states_by_name():
    lstm = {"class_name": "LSTM", "name": "l", "config": {
        "name": "l", "units": 2, "return_state": True}}  # fmt: skip
    first = lstm | {"inbound_nodes": [[["x", 0, 0, {}]]]}
    states = [["l", 0, 1], ["l", 0, 2]]
    second = {"class_name": "LSTM", "name": "m", "config": {"name": "m", "units": 2}}
    second["inbound_nodes"] = [[["x", 0, 0, {"initial_state": states}]]]
    model = read(graph([start("x", 3, 4), first, second], [["x", 0, 0]], [["m", 0, 0]]))

    def build(k):
        x = k.Input((3, 4))
        _, *states = k.layers.LSTM(2, return_state=True)(x)
        return k.Model(x, k.layers.LSTM(2)(x, initial_state=states))

    as_in_keras(model, build, 3, 4)


def test_names_with_a_slash():
    layer = dense("block/dense", 2, ["x", 0, 0, {}])
    model = read(graph([start("x", 4), layer], [["x", 0, 0]], [["block/dense", 0, 0]]))
    assert model.layers[-1].name == "block_dense"
