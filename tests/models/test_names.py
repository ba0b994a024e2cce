"""The names of layers and of operations on nodes, and the order of layers, against Keras."""

import numpy as np
import pytest

import fnn
from fnn.layers import Dense, Input, TimeDistributed
from tests.helpers.both_libraries import check


def test_a_layer_has_the_name_that_it_has_in_its_model():
    def program(k):
        layers = k.layers
        x = k.Input((4,))
        inner = k.Sequential([k.Input((3,)), layers.Dense(2, name="own")], name="inner")
        hidden = layers.Dense(5)(x)
        model = k.Model(x, inner(layers.Dense(3)(hidden)))
        names = [layer.name for layer in model.layers]
        return names, [model.get_layer(index=i).name for i in range(4)], inner.layers[0].name

    check(program)


def test_a_layer_in_no_model_has_the_name_of_its_class():
    def program(k):
        names = [k.layers.Dense(2).name, k.layers.MaxPooling2D().name, k.layers.LSTM(2).name]
        return [*names, k.layers.Dense(2, name="mine").name]

    check(program)


def test_names_do_not_count_in_comparisons():
    layer = Dense(2)
    model = fnn.Sequential([Input((3,)), Dense(4), layer])
    assert layer.name == "dense_1"
    assert layer == Dense(2) == model.layers[1]
    assert layer.own_name is None
    assert layer.replace(units=3) == Dense(3)
    assert repr(layer) == "Dense(units=2)"
    assert Dense.name is None
    inner = Dense(2)
    fnn.Sequential([Input((4, 3)), TimeDistributed(inner, name="steps")])
    assert inner.name == "dense"


@pytest.mark.slow
def test_the_layers_of_a_graph_in_their_order():
    def program(k):
        i, j = k.Input((4,)), k.Input((4,))
        a = k.layers.Dense(3)(i)
        a = k.layers.Dense(3)(a)
        both = k.layers.Concatenate()([a, j]) * 2.0 + 1.0
        out = k.layers.Dense(1)(both)
        lists = []
        for model in (k.Model([i, j], out), k.Model([j, i], [out, a]), k.Model(i, a)):
            kinds = [type(layer).__name__ for layer in model.layers]
            lists.append((kinds, len(model.operations), model.layers[1].name))
        shapes = [tuple(layer.output.shape) for layer in k.Model([i, j], out).layers]
        return lists, shapes, k.Model(i, a).get_layer(index=0).name

    check(program)


def test_operations_on_nodes_have_the_names_of_keras():
    def program(k):
        i, j = k.Input((4,)), k.Input((4,))
        v = abs((-((i + j) * 2 - j)[:, 0:2] / 3.0) ** 2) + 1
        both = (v > 1) & (v < 3)
        e = ((v // 2.0) % 2) @ np.ones((2, 3), "float32")
        model = k.Model([i, j], [e, (~both | both) ^ both, v <= 2, v >= 2, v != 2])
        return [operation.name for operation in model.operations if "input" not in operation.name]

    check(program)


def test_an_input_layer_starts_a_row():
    def program(k):
        model = k.Sequential([k.layers.InputLayer((8,), name="start"), k.layers.Dense(3)])
        start = k.layers.InputLayer((2, 3))
        return model.output_shape, len(model.layers), tuple(start.output.shape)

    check(program)
    layer = fnn.layers.InputLayer((3,), name="start")
    x = np.ones((2, 3))
    assert layer.input is layer.output
    assert layer.apply({}, {}, x)[0] is x
    model = fnn.Model(layer.output, Dense(2)(layer.output))
    assert model.get_layer("start").output is layer.output
    model.freeze(*model.layers)
    assert not model.trainable_weights
    with pytest.raises(ValueError, match="expected integers or None in shape"):
        fnn.layers.InputLayer((-1,))
