"""Keras's files in tests: written and read by Keras live, compared with fnn."""

import io

import h5py
import jax
import numpy as np

from fnn.core import tree
from fnn.core.calling import weight_spec
from fnn.saving.keras import hdf5, weights
from fnn.saving.keras.layout import holders
from tests.helpers.oracle import keras_rules, random_weights_unset


def assert_near(received, expected, tolerance=1e-5):
    """Arrays of any structure are near each other, relative to the largest number."""
    received, expected = jax.tree.leaves(received), jax.tree.leaves(expected)
    for a, b in zip(received, expected, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        if a.dtype.kind in "OSU":
            np.testing.assert_array_equal(a, b)
        else:
            most = max(1.0, np.abs(b).max(initial=0))
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * most)


def by_keras(call, *args, **named):
    """A call into Keras, under its rules."""
    with keras_rules():
        return call(*args, **named)


def twins(build, keras, fnn, seed=3):
    """(Keras's model, its inputs and outputs), with random weights."""
    from tests.helpers.keras_networks import inputs_of, randomize

    with keras_rules():
        with random_weights_unset():
            model = randomize(build(keras), seed)
        x = inputs_of(model)
        return model, x, model.predict(x, verbose=0)


def keras_holder(keras, layer):
    """A model of Keras that has one built layer as an attribute, for files of its weights."""

    class Holder(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = layer
            self.built = True

    return Holder()


def named_weights(case):
    """(layout of a case of the catalogue, its weights by name)."""
    specs = weight_spec(case.layer, case.x)
    arrays = {
        "/".join((part, *path)): np.asarray(leaf)
        for part, whole in zip(("params", "state"), case.weights, strict=True)
        for path, leaf in tree.flatten(whole)
    }
    return holders(case.layer, specs, "inner"), arrays


def read_by_fnn(path, layout, wanted):
    """The weights of the layer `inner` of a file, by name."""
    data = path.read_bytes()
    root = hdf5.read(io.BytesIO(data), len(data))
    found = weights.find(root.group("inner"), layout, wanted)
    return {name: entry.read() for name, entry in found.items()}


def write_by_fnn(path, layout, arrays):
    """A file with a layer `inner`."""
    with h5py.File(path, "w") as file:
        weights.write(file.create_group("inner"), layout, arrays)


def write_keras2(path, layers, config=None, training=None, optimizer=None):
    """A file as tf.keras 2 writes it: `layers` are `{layer: {weight: array}}`."""
    with h5py.File(path, "w") as file:
        group = file
        if config is not None:
            file.attrs["keras_version"] = b"2.15.0"
            file.attrs["backend"] = b"tensorflow"
            file.attrs["model_config"] = config.encode()
            group = file.create_group("model_weights")
        if training is not None:
            file.attrs["training_config"] = training.encode()
        group.attrs["layer_names"] = [name.encode() for name in layers]
        group.attrs["backend"] = b"tensorflow"
        group.attrs["keras_version"] = b"2.15.0"
        for name, arrays in layers.items():
            _write_list(group.create_group(name), arrays)
        if optimizer is not None:
            _write_list(file.create_group("optimizer_weights"), optimizer)


def _write_list(group, arrays):
    group.attrs["weight_names"] = [name.encode() for name in arrays]
    for name, array in arrays.items():
        group.create_dataset(name, data=array)
