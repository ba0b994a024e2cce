"""Every layer that prepares data has the arguments of Keras, in its order, with its defaults."""

import inspect

import pytest

from fnn import layers as L
from tests.helpers.oracle import keras_rules

# What every layer takes, by its name.
COMMON = {"self", "kwargs", "name", "dtype"}


def layers_of_keras():
    """The layers of Keras that prepare data, by name."""
    with keras_rules():
        import keras

        things = vars(keras.layers).items()
        return {
            name: thing
            for name, thing in things
            if isinstance(thing, type) and ".preprocessing." in thing.__module__
        }


def arguments(cls):
    """The arguments of a layer with their defaults, without those of every layer."""
    parameters = inspect.signature(cls.__init__).parameters
    return {name: item.default for name, item in parameters.items() if name not in COMMON}


def test_every_layer_has_the_arguments_of_keras():
    known = layers_of_keras()
    assert len(known) > 40
    differing = {}
    for name, theirs in known.items():
        ours, wanted = arguments(getattr(L, name)), arguments(theirs)
        if [key for key in ours if key in wanted] != list(wanted):
            differing[name] = list(ours), list(wanted)
        for key, default in wanted.items():
            # What Keras requires may have a default here: `Pipeline()` is empty.
            if default is not inspect.Parameter.empty and ours.get(key) != default:
                differing[name, key] = ours.get(key), default
    assert not differing


METHODS = {
    "Normalization": ("adapt", "finalize_state"),
    "Discretization": ("adapt", "update_state", "finalize_state", "reset_state"),
    **dict.fromkeys(
        ("StringLookup", "IntegerLookup", "TextVectorization"),
        (
            *("adapt", "update_state", "finalize_state", "reset_state"),
            *("get_vocabulary", "set_vocabulary", "vocabulary_size"),
        ),
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_the_arguments_of_keras(name):
    with keras_rules():
        import keras

    for method in METHODS[name]:
        theirs = inspect.signature(getattr(getattr(keras.layers, name), method)).parameters
        ours = inspect.signature(getattr(getattr(L, name), method)).parameters
        assert list(ours)[: len(theirs)] == list(theirs), method
