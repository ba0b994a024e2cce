"""Keras's configs, with live Keras: networks and layers read and written, equal outputs."""

import json

import jax
import keras
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.core.registry import TABLE, is_ours
from fnn.models import model_from_json
from fnn.runtime.keras_objects import ELSEWHERE, home_of, name_in_keras
from fnn.saving.keras.configs import (
    network_from_keras,
    network_to_keras,
)
from tests.helpers.catalogue import CATALOGUE
from tests.helpers.keras_networks import NETWORKS, assert_same_outputs, randomize
from tests.helpers.keras_twins import assert_equals_keras, built, twin
from tests.helpers.oracle import keras_rules

# One of each kind of graph; the others take longer than they tell.
SAMPLE = ("dicts", "masks", "nested", "operators", "row_in_a_graph", "states")
EVERY = [
    name if name in SAMPLE else pytest.param(name, marks=pytest.mark.thorough) for name in NETWORKS
]


# -- networks ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_networks_that_keras_wrote(name):
    with keras_rules():
        theirs = randomize(NETWORKS[name](keras))
    ours = model_from_json(theirs.to_json())
    assert ours.name == theirs.name
    assert_same_outputs(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_networks_that_keras_reads(name):
    ours = NETWORKS[name](fnn)
    described = json.dumps(network_to_keras(ours))
    with keras_rules():
        theirs = randomize(keras.models.model_from_json(described))
    assert theirs.name == ours.name
    assert_same_outputs(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_come_back_as_equal_values(name):
    """Each has the same inputs, names and layers, so that its programs are compiled already."""
    ours = NETWORKS[name](fnn)
    again = network_from_keras(json.loads(json.dumps(network_to_keras(ours))))
    assert again.layer.replace(name=None) == ours.layer.replace(name=None)
    assert (
        jax.tree.map(lambda node: (node.shape, node.name), again.inputs)
        == jax.tree.map(lambda node: (node.shape, node.name or "input_layer"), ours._network.inputs)
        or len(jax.tree.leaves(again.inputs)) > 1
    )


# -- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "home"),
    [
        ("layer", keras.layers),
        ("loss", keras.losses),
        ("metric", keras.metrics),
        ("optimizer", keras.optimizers),
        ("schedule", keras.optimizers.schedules),
    ],
)
def test_classes_of_fnn_alone_are_named_by_fnn(kind, home):
    for (of, name), cls in TABLE.items():
        if of == kind and isinstance(cls, type) and cls.__name__ == name and is_ours(cls):
            # Layers of a framework's functions and modules hold what no file can.
            has = hasattr(home, name_in_keras(cls)) and name not in ("JaxLayer", "FlaxLayer")
            has = has or name == "Sequential" or name in ELSEWHERE
            assert home_of(kind, name).startswith("keras") == has, name


# What Keras refuses, or takes in the call.
IN_CALL = ("use_causal_mask", "return_attention_scores")
LAYERS = [
    case
    for case in CATALOGUE
    if case.keras is not None and not any(getattr(case.layer, name, False) for name in IN_CALL)
]
IDS = [case.id for case in LAYERS]


def through_json(described):
    return json.loads(json.dumps(described))


def as_keras_reads(layer):
    described = through_json(L.serialize(layer))
    with keras_rules():
        return keras.layers.deserialize(described, {"doubled": doubled, "same_mask": same_mask})


def doubled(x, times=2):
    return x * times


def same_mask(x, mask):
    return mask


def plain(config):
    """A config through JSON, without names, which Keras counts, and without code."""
    if isinstance(config, dict):
        return {
            key: plain(item)
            for key, item in config.items()
            if key not in ("name", "function", "mask", "build_config", "value_range")
        }
    if isinstance(config, (list, tuple)):
        return [plain(item) for item in config]
    return config


@pytest.mark.slow
@pytest.mark.parametrize("case", LAYERS, ids=IDS)
def test_every_layer_is_the_same_in_keras(case):
    """Keras makes the twin of the layer, whose numbers other tests compare, of the config."""
    with keras_rules():
        made, expected = built(as_keras_reads(case.layer), case), twin(case)
        assert type(made) is type(expected)
        assert plain(made.get_config()) == plain(expected.get_config())


@pytest.mark.thorough
@pytest.mark.parametrize("case", LAYERS, ids=IDS)
def test_every_layer_computes_the_same_in_keras(case):
    assert_equals_keras(case, False, as_keras_reads(case.layer))


VOCABULARIES = {
    "StringLookup": {"vocabulary": ["a", "b"], "num_oov_indices": 2},
    "IntegerLookup": {"vocabulary": [3, 5], "output_mode": "one_hot"},
    "TextVectorization": {"vocabulary": ["a", "b"], "output_sequence_length": 4},
    "Hashing": {"num_bins": 3, "salt": [1, 2]},
    "HashedCrossing": {"num_bins": 4},
    "Discretization": {"num_bins": 3},
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_layers_of_strings_and_tables(name):
    mine = getattr(L, name)(**VOCABULARIES[name])
    with keras_rules():
        theirs = getattr(keras.layers, name)(**VOCABULARIES[name])
        made = keras.layers.deserialize(through_json(L.serialize(mine)))
        assert plain(made.get_config()) == plain(theirs.get_config())
        read = L.deserialize(through_json(keras.layers.serialize(theirs)))
    assert read == mine.replace(name=read.own_name, dtype=read.dtype)


# -- classes of users ----------------------------------------------------------------------------


def scaled(k):
    class Scaled(k.layers.Layer):
        def __init__(self, factor=2.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, x, offset=None, times=1):
            return x * self.factor * times + (0 if offset is None else offset)

        def get_config(self):
            return {**super().get_config(), "factor": self.factor}

    return Scaled


def with_own_layer(k, cls):
    x = k.Input((4,))
    y = cls(3.0)(x, offset=k.layers.Dense(4)(x), times=2)
    return k.Model(x, k.layers.Dense(2, activation="relu")(cls(name="last")(y)))


@pytest.mark.slow
def test_classes_of_users_by_custom_objects():
    ours, theirs = scaled(fnn), scaled(keras)
    with keras_rules():
        model = with_own_layer(keras, theirs)
    assert_same_outputs(model_from_json(model.to_json(), {"Scaled": ours}), model)
    with pytest.raises(ValueError, match=r"layer 'scaled' of class Scaled.*'Scaled'"):
        model_from_json(model.to_json())
    mine = with_own_layer(fnn, ours)
    with keras_rules():
        described = json.dumps(network_to_keras(mine))
        read = keras.models.model_from_json(described, {"Scaled": theirs})
    assert_same_outputs(mine, read)


@pytest.mark.slow
def test_models_with_call_by_custom_objects():
    found = {}
    for library in (keras, fnn):

        class Own(library.Model):
            def __init__(self, units=3, **kwargs):
                super().__init__(**kwargs)
                self.units = units
                self.head = type(self).layers_of.Dense(units)

            def call(self, x):
                return self.head(x)

            def get_config(self):
                return {**super().get_config(), "units": self.units}

        Own.layers_of = library.layers
        found[library] = Own
    with keras_rules():
        theirs = found[keras](2, name="own")
        theirs(np.ones((1, 4)))
        written = theirs.to_json()
        weights = [np.array(weight) for weight in theirs.get_weights()]
    ours = model_from_json(written, {"Own": found[fnn]})
    assert (ours.name, ours.units, ours.built) == ("own", 2, True)
    ours.set_weights(weights)
    with keras_rules():
        again = keras.models.model_from_json(ours.to_json(), {"Own": found[keras]})
        again.set_weights(weights)
        expected = np.asarray(again(np.ones((3, 4))))
    np.testing.assert_allclose(ours.predict(np.ones((3, 4)), verbose=0), expected, rtol=1e-6)
