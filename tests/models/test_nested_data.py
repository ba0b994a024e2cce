"""Inputs and outputs in nested structures: data, losses and names as in Keras."""

import warnings

import keras
import numpy as np
import pytest

import fnn
from tests.helpers.oracle import keras_rules

RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=(40, 3)).astype("float32") for _ in range(3))


def of_dicts(inputs, outputs):
    (a, b, c), (u, v, w) = inputs, outputs
    return {"p": [a, b], "q": c}, {"g": u, "h": [v, w]}


def of_lists(inputs, outputs):
    (a, b, c), (u, v, w) = inputs, outputs
    return [[a, b], c], [u, [v, w]]


def network(k, structure, loss):
    a, b, c = (k.Input((3,), name=name) for name in "abc")
    joined = k.layers.Concatenate()([a, b, c])
    units = {"u": 1, "v": 2, "w": 1}
    outputs = [k.layers.Dense(size, name=name)(joined) for name, size in units.items()]
    model = k.Model(*structure([a, b, c], outputs))
    model.compile(k.optimizers.SGD(0.1), loss)
    return model


def part(tree, rows):
    return keras.tree.map_structure(lambda array: array[rows], tree)


LOSSES = {of_dicts: {"g": "mse", "h": ["mae", "mse"]}, of_lists: ["mse", ["mae", "mse"]]}


@pytest.mark.slow
@pytest.mark.parametrize("structure", [of_dicts, of_lists])
@pytest.mark.parametrize(
    "form",
    [
        "arrays",
        pytest.param("batches", marks=pytest.mark.thorough),  # as the next, without weights
        "weighted batches",
    ],
)
def test_nested_data_trains_as_in_keras(structure, form):
    x, y = structure([A, B, C], [A[:, :1], B[:, :2], C[:, :1]])
    weights = structure([A, B, C], [np.linspace(0.5, 1.5, 40)] * 3)[1]

    def batches():
        for start in range(0, 40, 8):
            rows = slice(start, start + 8)
            batch = part(x, rows), part(y, rows)
            yield batch if form == "batches" else (*batch, part(weights, rows))

    def run(model, data):
        if form == "arrays":
            history = model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        else:
            history = model.fit(data, shuffle=False, verbose=0)
        return history.history, model.predict(x, verbose=0)

    with keras_rules(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names of inputs, and the end of the generator
        theirs = network(keras, structure, LOSSES[structure])
        start = theirs.get_weights()
        expected, outputs = run(theirs, batches())
    ours = network(fnn, structure, LOSSES[structure])
    ours.set_weights(start)
    found, predicted = run(ours, batches)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, err_msg=name)
    for one, other in zip(keras.tree.flatten(predicted), keras.tree.flatten(outputs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("structure", [of_dicts, of_lists])
def test_targets_of_another_structure_are_refused(structure):
    model = network(fnn, structure, LOSSES[structure])
    x, _ = structure([A, B, C], [A, A, A])
    with pytest.raises(ValueError, match=r"for the 3 outputs|by the names of the outputs"):
        model.fit(x, {"g": A[:, :1], "z": A[:, :1]}, verbose=0)
    with pytest.raises(ValueError, match="for the 3 outputs"):
        model.fit(x, [A[:, :1], B[:, :2]], verbose=0)
