"""What one of both libraries does not have: errors that name the layer, and what to do."""

import pytest

import fnn
from fnn import layers as L
from fnn.models import model_from_json
from fnn.saving.keras.configs import network_from_keras, network_to_keras


def row_of(*entries):
    return {"class_name": "Sequential", "config": {"name": "row", "layers": list(entries)}}


def dense(**config):
    return {"class_name": "Dense", "config": {"name": "dense", "units": 2} | config}


REFUSED = {
    "class": (row_of(dense() | {"class_name": "os"}), "layer 'dense' of class os"),
    "module": (row_of(dense() | {"module": "os", "class_name": "system"}), "'system'"),
    "code": (
        row_of({"class_name": "Lambda", "config": {"name": "f", "function": {
            "class_name": "__lambda__", "config": {"code": "4wE="}}}}),
        "layer 'f' of class Lambda.*which fnn never runs",
    ),
    "argument": (row_of(dense(color="red")), "layer 'dense' of class Dense.*color"),
    "missing": ({"class_name": "Sequential"}, "a config of Sequential"),
    "no layers": (row_of(3), "the file is damaged"),
    "a loss": (row_of({"class_name": "Huber", "config": {}}), "expected a layer"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_configs_that_are_refused(case):
    described, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        network_from_keras(described)


def graph_of(*inputs, outputs):
    """A graph of a Dense layer, `y`, with these tensors as inputs of its call."""
    tensors = [
        {"class_name": "__keras_tensor__", "config": {"keras_history": tensor}} for tensor in inputs
    ]
    start = {"class_name": "InputLayer", "name": "x", "config": {"batch_shape": [None, 4]}}
    end = dense(name="y") | {"name": "y", "inbound_nodes": [{"args": tensors, "kwargs": {}}]}
    config = {"layers": [start | {"inbound_nodes": []}, end], "input_layers": ["x", 0, 0]}
    return {"class_name": "Functional", "config": {**config, "output_layers": outputs}}


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (graph_of(["y", 0, 0], outputs=["y", 0, 0]), "in a circle"),
        (graph_of(["z", 0, 0], outputs=["y", 0, 0]), "'z', which is missing"),
        (graph_of(["x", 0, 1], outputs=["y", 0, 0]), "output 1 of call 0 of 'x', which has 1"),
        (graph_of(["x", 0, 0], outputs=["y", 0, 7]), "output 7"),
        (graph_of(["x", 0, 0], outputs="y"), "inputs or outputs of a graph"),
        (graph_of(["x", 0, 0], ["x", 0, 0], outputs=["y", 0, 0]), "layer 'y' of class Dense"),
    ],
)
def test_graphs_that_are_refused(described, message):
    with pytest.raises(ValueError, match=message):
        network_from_keras(described)


def test_models_inside_of_models_without_end():
    inner = row_of(dense())
    for _ in range(60):
        inner = row_of(inner)
    with pytest.raises(ValueError, match="50 at most"):
        network_from_keras(inner)


def model_of(*layers):
    return fnn.Sequential([fnn.Input((4, 4)), *layers])


def graph_with(make):
    x = fnn.Input((4, 4))
    return fnn.Model(x, make(x))


def masked(x):
    return L.Masking()(x)


def with_another_position(x):
    return L.MultiHeadAttention(2, 2, position=L.RotaryEmbedding())(x, x)


UNKNOWN_TO_KERAS = {
    "a layer": (lambda: model_of(L.Residual(L.Dense(4))), "'residual' with Residual"),
    "inside": (lambda: model_of(L.TimeDistributed(L.GatedDense(3))), "with GatedDense"),
    "a field": (lambda: graph_with(with_another_position), "position=RotaryEmbedding|RotaryEmb"),
    "in a row": (lambda: model_of(L.Dense(4), *[L.Dense(4)] * 2), None),
    "a mask": (lambda: graph_with(lambda x: masked(x) * 2), "keeps the mask"),
    "its values": (lambda: graph_with(lambda x: masked(x)._keras_mask), "takes the mask"),
    "one layer": (lambda: fnn.Model(L.Dense(2, input_shape=(4,))), "Sequential\\(\\[layer\\]"),
}


@pytest.mark.parametrize("case", UNKNOWN_TO_KERAS)
def test_networks_that_keras_does_not_have(case):
    make, message = UNKNOWN_TO_KERAS[case]
    model = make()
    if message is None:
        one = L.Dense(4)
        model = model_of(one, one)
        message = "runs a layer several times"
    with pytest.raises(ValueError, match=message) as error:
        network_to_keras(model)
    assert ".fnn" in str(error.value)


def test_one_layer_inside_of_two_others():
    one = L.Dense(4)
    x = fnn.Input((3, 4))
    model = fnn.Model(x, L.TimeDistributed(one)(x) + one(x))
    with pytest.raises(ValueError, match=r"two layers of; save it as \.fnn"):
        network_to_keras(model)


def test_remat_stays_in_json():
    inner = graph_with(L.Remat(L.Dense(4)))
    assert "Remat" in inner.to_json()


def test_layers_of_fnn_alone_come_back_through_json():
    model = model_of(L.Residual(L.Dense(4)), L.Dense(2))
    assert model_from_json(model.to_json()).layer.layers == model.layer.layers
